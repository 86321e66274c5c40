"""Validation of settings before a run starts."""

import numpy as np
import pytest

from audiocraft.errors import ConfigError
from audiocraft.solvers.validation import check_settings, padding_warning

from ..conftest import composed

TINY = "solver=musicgen/musicgen_style_tiny"

# Settings that would otherwise fail only when samples are generated, data read or states saved.
LATE = {
    "generate.lm.temp=hot": "generate.lm: temperature must be at least 0 but is 'hot'",
    "generate.lm.top_k=-3": "generate.lm: top_k must be at least 0",
    "generate.lm.gen_duration=0": "generate.lm: duration=0",
    "generate.lm.prompted_samples=1": "generate.lm: prompted must be true or false but is 1",
    "generate.lm.prompt_duration=-1": "generate.lm: prompt_duration must be above 0 s but is -1",
    "generate.audio.format=wma": "generate.audio: format='wma'",
    "generate.audio.strategy=loud": "generate.audio: strategy='loud'",
    "generate.num_workers=-2": "generate.num_workers is -2",
    "checkpoint.save_every=x": "checkpoint.save_every is 'x'",
    "checkpoint.keep_last=-1": "checkpoint.keep_last is -1",
    "evaluate.every=x": "evaluate.every is 'x'",
    "+attribute_dropout.text.genre=1": "attribute_dropout.text.genre",
    "+conditioners.genre.lut.dim=8": "conditioners.genre has settings but no model",
}


@pytest.mark.parametrize("override", LATE)
def test_settings_that_would_fail_late_raise_at_once(override):
    with pytest.raises(ConfigError) as caught:
        check_settings(composed(TINY, override))
    assert str(caught.value).startswith(LATE[override])


@pytest.mark.parametrize(("seconds", "window"), [(4, 4), (7, 6)])  # of 6 s at most
def test_prompt_must_be_shorter_than_the_sample(seconds, window):
    job = (TINY, "generate.lm.prompted_samples=true", f"generate.lm.gen_duration={seconds}")
    with pytest.raises(ConfigError, match=f"prompt_duration is {window} s.*{window} s"):
        check_settings(composed(*job, f"generate.lm.prompt_duration={window}"))
    check_settings(composed(*job, f"generate.lm.prompt_duration={window - 1}"))


def test_without_samples_their_settings_are_not_checked():
    check_settings(composed(TINY, "generate.every=null", "generate.lm.temp=hot"))


@pytest.mark.parametrize("strategy", ["peak", "clip", "rms", "loudness"])
@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg"])
def test_every_format_and_strategy_is_accepted(format, strategy):
    check_settings(
        composed(TINY, f"generate.audio.format={format}", f"generate.audio.strategy={strategy}")
    )


@pytest.mark.parametrize(
    ("durations", "segment_duration"),
    [([10.0, 10.0], 10.0), ([200.0], 30.0), ([10.0, 10.0], 20.0), ([1.0, 100.0], None)],
)
def test_segments_filled_with_audio_log_no_warning(durations, segment_duration):
    assert padding_warning(np.array(durations), segment_duration) is None


def test_mostly_padded_segments_are_a_warning_with_both_durations():
    text = padding_warning(np.array([5.0, 15.0]), 100.0)
    assert text is not None
    assert text.startswith("Only 10% of a segment is audio")
    assert "is 100 s but files last 10.0 s" in text
