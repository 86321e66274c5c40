"""Composes short pieces of music in clearly different styles, with labels that are true.

A style is data (`styles/`); `arranger.compose(style, seed)` turns it into a `Score`, and
everything a listener may be told about it (`labels`) is read from that score.
"""

from .arranger import compose
from .score import Note, Part, Score
from .styles import STYLES

__all__ = ["STYLES", "Note", "Part", "Score", "compose"]
