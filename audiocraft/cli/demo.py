"""`audiocraft demo`: serve the web page of the folder `demos`."""

import importlib.util
import typing as tp
from importlib import import_module

from ..environment import add_checkout_to_path
from ..errors import ConfigError

PACKAGES = ("audiocraft.demos", "demos")  # of an installed package, of a checkout


def main(argv: tp.Sequence[str]) -> int:
    """Run the command; returns the exit status.

    Raises:
        ConfigError: Gradio or the page's package is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("The page needs Gradio: pip install 'audiocraft-style[demo]'.")
    add_checkout_to_path()
    found = [name for name in PACKAGES if importlib.util.find_spec(name) is not None]
    if not found:
        raise ConfigError("The folder demos is missing. Use a complete checkout or wheel.")
    return import_module(f"{found[0]}.musicgen_style_app").main(argv)
