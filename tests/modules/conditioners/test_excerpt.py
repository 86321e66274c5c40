import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocraft.modules.conditioners import draw_excerpt, select_excerpt_start
from audiocraft.modules.conditioners.excerpt import covered_frames, draw_length


def rng(seed):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(st.integers(1, 1000), st.integers(0, 1000), st.integers(0, 99))
def test_excerpt_lies_inside_the_audio(length, spare, seed):
    excerpt = draw_excerpt(length + spare, length, 100, rng(seed))
    assert excerpt.start >= 0
    assert excerpt.stop - excerpt.start == length
    assert excerpt.stop <= length + spare


def test_middle_is_selected_without_a_generator():
    assert draw_excerpt(100, 20, 10) == slice(40, 60)


def test_excerpt_longer_than_the_audio_raises():
    with pytest.raises(ValueError, match=r"of 3 s does not fit in a clip of 1\.5 s"):
        draw_excerpt(num_samples=15, length=30, sample_rate=10)


@settings(deadline=None)
@given(st.floats(0.01, 9), st.integers(0, 99))
def test_length_fits_into_the_shortest_clip(longest, seed):
    assert min(1.5, longest) <= draw_length((1.5, 4.5), longest, rng(seed)) <= min(4.5, longest)


def test_frames_are_covered_from_where_the_excerpt_starts():
    covered = covered_frames([slice(25, 56), None, slice(0, 9)], hop=10)
    assert covered.int().tolist() == [[0, 0, 1, 1, 1], [0] * 5, [0] * 5]


def test_seed_selects_a_whole_millisecond_as_recipes_of_earlier_versions_do():
    starts = [select_excerpt_start(10.0, 3.0, seed) for seed in (0, 7, 2**62 - 1)]
    assert starts == [6.347, 4.15, 4.285]
    assert select_excerpt_start(3.0, 3.0, 7) == 0
    assert select_excerpt_start(10.0, 3.0, 7, start=6.9) == 6.9


@pytest.mark.parametrize(("duration", "start"), [(2.9, None), (2.9, 0.0), (10, -0.1), (10, 7.1)])
def test_excerpt_outside_the_clip_raises(duration, start):
    with pytest.raises(ValueError, match="does not fit"):
        select_excerpt_start(duration, 3.0, 7, start)
