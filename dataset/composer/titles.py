"""Titles: two words that suit the style, and a number that makes them unique."""

import random

ADJECTIVES = (
    "Amber", "Blue", "Broken", "Distant", "Early", "Empty", "Golden", "Hidden", "Hollow",
    "Little", "Lost", "Narrow", "Northern", "Paper", "Quiet", "Restless", "Second", "Silver",
    "Slow", "Southern", "Sunday", "Velvet", "Wandering", "Winter", "Yellow",
)  # fmt: skip


def draw_title(nouns: tuple[str, ...], seed: int, rng: random.Random) -> str:
    """Draw a title such as `Quiet Harbour No. 7`; the number is the seed of the piece."""
    return f"{rng.choice(ADJECTIVES)} {rng.choice(nouns)} No. {seed}"
