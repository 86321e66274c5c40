"""Standard output of commands that finish their work even if its reader ends."""

import os
import sys

from tqdm import tqdm


def print_line(line: str) -> None:
    """Print a line, above a progress bar if there is one.

    Once the reader has closed the pipe (`| head`), further lines are discarded.
    """
    try:
        with tqdm.external_write_mode():
            print(line, flush=True)
    except BrokenPipeError:
        discard = os.open(os.devnull, os.O_WRONLY)
        os.dup2(discard, sys.stdout.fileno())  # Python flushes at exit, too
        os.close(discard)
