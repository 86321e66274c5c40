"""Handlers of the page: changes of the clip and of its excerpt."""

import re
import types

import gradio as gr
import pytest

from demos.handlers import Handlers

from .conftest import tone, write

VISITOR = types.SimpleNamespace(session_hash="ada")


@pytest.fixture
def show_clip(sessions, tmp_path):
    """Returns the excerpt in the picture, or the error message; and the slider."""
    handlers = Handlers(None, sessions, tmp_path)

    def shown(clip, start, length):
        picture, slider = handlers.show_clip(clip and str(clip), start, length, VISITOR)
        drawn = re.search(r"excerpt: (.*) to (.*) s,?\"", picture)
        return (float(drawn[1]), float(drawn[2])) if drawn else picture, slider

    return shown


def test_the_excerpt_of_a_new_clip_is_its_middle(show_clip, tmp_path):
    first, second = (write(tmp_path / f"{n}.wav", tone(n)) for n in (8, 12))
    drawn, slider = show_clip(first, 0.0, 3.0)
    assert drawn == (2.5, 5.5)
    assert (slider.value, slider.maximum, slider.visible) == (2.5, 5.0, True)
    assert show_clip(second, 2.5, 3.0)[0] == (4.5, 7.5)


def test_the_start_of_the_same_clip_is_kept_if_it_fits(show_clip, tmp_path):
    clip = write(tmp_path / "clip.wav", tone(8))
    show_clip(clip, 0.0, 3.0)
    assert show_clip(clip, 4.5, 2.0)[0] == (4.5, 6.5)
    drawn, slider = show_clip(clip, 4.5, 4.0)
    assert drawn == (4.0, 8.0)
    assert (slider.value, slider.maximum) == (4.0, 4.0)


def test_a_moved_slider_keeps_its_value(show_clip, tmp_path):
    clip = write(tmp_path / "clip.wav", tone(8))
    show_clip(clip, 0.0, 3.0)
    drawn, slider = show_clip(clip, 1.5, 3.0)
    assert drawn == (1.5, 4.5)
    assert slider == {"__type__": "update"}


def test_a_clip_that_cannot_be_used_has_no_slider_and_the_next_one_is_new(show_clip, tmp_path):
    short, clip = (write(tmp_path / f"{n}.wav", tone(n)) for n in (2, 8))
    show_clip(clip, 0.0, 3.0)
    sentence, slider = show_clip(short, 2.5, 3.0)
    assert "choose a shorter excerpt" in sentence
    assert not slider.visible
    assert show_clip(short, 2.5, 1.0)[0] == (0.5, 1.5)
    assert show_clip(None, 0.5, 1.0)[0] == ""
    assert show_clip(short, 0.0, 1.0)[0] == (0.5, 1.5)


def test_only_uploads_are_read(sessions, tmp_path):
    outside = write(tmp_path / "outside.wav", tone(4))
    (tmp_path / "files").mkdir()
    handlers = Handlers(None, sessions, tmp_path / "files")
    picture, _ = handlers.show_clip(str(outside), 0.0, 3.0, VISITOR)
    assert "outside.wav was not uploaded here" in picture


def test_an_error_message_disappears_by_itself(sessions, tmp_path):
    with pytest.raises(gr.Error, match="There is no bundled clip 'polka'") as reported:
        Handlers(None, sessions, tmp_path).choose_bundled("polka", VISITOR)
    assert 5 <= reported.value.duration <= 20  # time to read it; then the buttons are free
