"""Whether what a user gave is a number, of Python or of NumPy."""

import math
import typing as tp

import numpy as np


def is_number(value: object) -> tp.TypeGuard[float]:
    """Whether a value is a finite number; a truth value is none."""
    is_real = isinstance(value, int | float | np.integer | np.floating)
    return is_real and not isinstance(value, bool) and bool(abs(value) < math.inf)


def is_integer(value: object) -> tp.TypeGuard[int]:
    """Whether a value is a whole number, and of a type that has no others."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
