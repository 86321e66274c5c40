"""All styles by name."""

from . import acoustic, band, electronic

STYLES = {style.name: style for style in (*acoustic.STYLES, *band.STYLES, *electronic.STYLES)}
