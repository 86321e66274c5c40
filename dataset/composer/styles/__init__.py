"""All styles by name."""

from . import acoustic, band, electronic, groove

_FILES = (acoustic, band, groove, electronic)
STYLES = {style.name: style for file in _FILES for style in file.STYLES}
