"""What a run would do, told before it does it, and what is in its way."""

from .command import main as main
