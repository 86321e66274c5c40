"""Style-conditioned music generation: training, fine-tuning, inference."""

from ._moved import install as _install_moved_modules

__version__ = "2.0.0a1"

_install_moved_modules()
