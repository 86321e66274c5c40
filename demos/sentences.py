"""What visitors are told when something fails: a sentence, never a traceback or a server's path."""

import errno
import html
import logging
from pathlib import Path

import torch

from audiocraft.errors import AudiocraftError

logger = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT)


class Cancelled(Exception):
    """A visitor does not want the piece any more."""


def error_message(error: Exception, clip: Path | None = None) -> str:
    """An error in words for the page, safe to show as HTML.

    What nobody foresaw is written to the log with its traceback.

    Args:
        error: What was raised.
        clip: The style clip, which the visitor knows by its name only.
    """
    if isinstance(error, AudiocraftError):
        reported = str(error) if clip is None else str(error).replace(str(clip), clip.name)
        return html.escape(reported, quote=False)
    if isinstance(error, Cancelled):
        return "Cancelled."
    if isinstance(error, OSError) and error.errno in FULL:
        logger.error("%s", error)
        return (
            "The disk of the server is full, so nothing could be kept. Try again later, or tell "
            "whoever runs this page."
        )
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        logger.error("%s", error)
        return (
            "That is more music at once than fits into the memory of the server. Try fewer "
            "variations, or shorter ones."
        )
    logger.error("A request failed.", exc_info=error)
    return (
        f"Something went wrong on the server ({type(error).__name__}). It has been written to the "
        "log; please try again."
    )
