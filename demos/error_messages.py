"""Error messages of the page: one sentence, without a traceback or a path of the server."""

import errno
import html
import logging
from pathlib import Path

import torch

from audiocraft.errors import AudiocraftError

logger = logging.getLogger(__name__)

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class Cancelled(Exception):
    """A visitor has cancelled the generation."""


def error_message(error: Exception, clip: Path | None = None) -> str:
    """Return the message of an error, escaped for HTML.

    Unexpected errors are logged with their traceback.

    Args:
        error: The exception.
        clip: Path of the style clip, of which the message keeps only the file name.
    """
    if isinstance(error, AudiocraftError):
        message = str(error) if clip is None else str(error).replace(str(clip), clip.name)
        return html.escape(message, quote=False)
    if isinstance(error, Cancelled):
        return "Cancelled."
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        logger.error("%s", error)
        return (
            "The disk of the server is full, so nothing could be saved. Try again later, or "
            "contact whoever runs this page."
        )
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        logger.error("%s", error)
        return (
            "The server has not enough memory for this much music at once. Try fewer variations, "
            "or shorter ones."
        )
    logger.error("A request failed.", exc_info=error)
    return (
        f"Something went wrong on the server ({type(error).__name__}). The details are in its log. "
        "Please try again."
    )
