import math

import numpy as np
import pytest

from audiocraft.utils.numbers import is_integer, is_number


@pytest.mark.parametrize("value", [0, -3, 2**70, np.int64(5), np.uint8(5)])
def test_whole_numbers(value):
    assert is_integer(value)
    assert is_number(value)


@pytest.mark.parametrize("value", [0.5, 2.0, np.float32(0.5), np.float64(2)])
def test_other_numbers(value):
    assert is_number(value)
    assert not is_integer(value)


@pytest.mark.parametrize("value", ["8", None, True, math.nan, math.inf, np.nan, [1], 1j])
def test_values_that_are_not_numbers(value):
    assert not is_number(value)
    assert not is_integer(value)
