"""Style clips of the page: validation and picture."""

import re

import av
import numpy as np
import pytest

from audiocraft.errors import AudioError
from demos import clips
from demos.clips import bundled_clips, draw_clip, inspect_clip, max_start

from .conftest import RATE, tone, write


def test_displayed_peaks_match_the_clip(clip):
    style_clip = inspect_clip(clip)
    samples = np.abs(tone(3))
    parts = [part.max() for part in np.split(samples, len(style_clip.peaks))]
    assert style_clip.duration == pytest.approx(3)
    np.testing.assert_allclose(style_clip.peaks, parts, atol=1e-4)


def test_every_bundled_clip_can_be_used():
    found = bundled_clips()
    assert len(found) > 5
    for path in found.values():
        assert inspect_clip(path).duration > 4.5


@pytest.mark.parametrize(
    ("samples", "rate", "subtype", "sentence"),
    [
        (np.zeros(0), RATE, "PCM_16", "no audio"),
        (np.zeros(3 * RATE), RATE, "PCM_16", "is silent"),
        (np.full(3 * RATE, np.nan), RATE, "FLOAT", "not finite"),
        (tone(3 * 3600, 100), 100, "PCM_U8", "lasts 3 hours; the maximum is 20 minutes"),
    ],
    ids=["empty", "silent", "nan", "three hours"],
)
def test_a_clip_that_cannot_be_used_is_refused_in_one_sentence(
    samples, rate, subtype, sentence, tmp_path
):
    path = write(tmp_path / "clip.wav", samples, rate, subtype)
    with pytest.raises(AudioError, match=sentence):
        inspect_clip(path)


def test_empty_files_and_non_audio_files_are_refused(tmp_path):
    empty, text = tmp_path / "empty.mp3", tmp_path / "text.wav"
    empty.touch()
    text.write_text("la la la")
    with pytest.raises(AudioError, match="is empty"):
        inspect_clip(empty)
    with pytest.raises(AudioError, match="cannot be read as audio"):
        inspect_clip(text)


def test_a_clip_of_too_many_bytes_is_not_read(clip, monkeypatch):
    monkeypatch.setattr(clips, "MAX_BYTES", 2**14)
    with pytest.raises(AudioError, match="cut them out first"):
        inspect_clip(clip)


def test_a_clip_of_1_khz_and_8_bits_is_accepted(tmp_path):
    path = write(tmp_path / "coarse.wav", tone(3, 1000), 1000, "PCM_U8")
    assert inspect_clip(path).duration == pytest.approx(3)


def test_a_video_needs_an_audio_track(tmp_path):
    path = tmp_path / "video.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(AudioError, match="no audio stream"):
        inspect_clip(path)


def test_the_excerpt_is_drawn_at_its_position(clip):
    style_clip = inspect_clip(clip)
    drawn = draw_clip(style_clip, 1.0, 1.5)
    x, width = (float(value) for value in re.findall(r' x="(.+?)" width="(.+?)"', drawn)[0])
    count = len(style_clip.peaks)
    assert (x / count, width / count) == pytest.approx((1 / 3, 1.5 / 3), abs=0.01)
    assert "excerpt: 1.0 to 2.5 s" in drawn
    assert drawn.count("v") >= count


def test_file_names_are_escaped_in_html(tmp_path):
    path = write(tmp_path / "<b onclick=x>.wav", tone(2))
    assert "<b" not in draw_clip(inspect_clip(path), 0, 1.5)


def test_the_start_is_limited_by_the_excerpt_length(clip):
    style_clip = inspect_clip(clip)
    assert max_start(style_clip, 1.5) == 1.5
    assert max_start(style_clip, 3.0) == 0
    with pytest.raises(AudioError, match="choose a shorter excerpt"):
        max_start(style_clip, 4.0)
