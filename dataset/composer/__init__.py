"""Composer of short pieces of music in clearly different styles, with correct labels.

A style is data (`styles/`); `arranger.compose(style, seed)` returns a `Score`, and its metadata
(`labels`) is computed from that score.
"""

from .arranger import compose
from .score import Note, Part, Score
from .styles import STYLES
from .tunes import TUNES_BY_TITLE, Tune, tunes_of

__all__ = ["STYLES", "TUNES_BY_TITLE", "Note", "Part", "Score", "Tune", "compose", "tunes_of"]
