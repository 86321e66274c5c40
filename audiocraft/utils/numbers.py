"""Type checks for numbers from users: Python's and NumPy's, without booleans."""

import math
import typing as tp

import numpy as np


def is_number(value: object) -> tp.TypeGuard[float]:
    """Whether a value is a finite real number; booleans are not."""
    is_real = isinstance(value, int | float | np.integer | np.floating)
    return is_real and not isinstance(value, bool) and bool(abs(value) < math.inf)


def is_integer(value: object) -> tp.TypeGuard[int]:
    """Whether a value is of an integer type; booleans are not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
