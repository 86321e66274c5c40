import io

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from audiocraft.utils import notebook


@pytest.fixture
def shown(monkeypatch):
    """Display output of a notebook."""
    things = []
    monkeypatch.setattr(notebook.ipd, "display", things.append)
    return things


def test_every_waveform_gets_a_player(shown):
    samples = torch.sin(torch.arange(800) / 3).expand(2, 1, -1) * torch.tensor([[[0.5]], [[0.1]]])
    notebook.display_audio(samples, 8000, titles=["loud", "soft"])
    assert [type(thing).__name__ for thing in shown] == ["Markdown", "Audio"] * 2
    assert [thing.data for thing in shown[::2]] == ["**loud**", "**soft**"]
    for player in shown[1::2]:
        wav, sample_rate = soundfile.read(io.BytesIO(player.data))
        assert (len(wav), sample_rate) == (800, 8000)
        assert abs(wav).max() > 0.9  # a player normalizes the volume


def test_single_waveform_needs_no_batch_and_no_title(shown):
    notebook.display_audio(torch.ones(2, 100), 8000)
    assert len(shown) == 1


def figure(colour):
    return Figure(figsize=(2, 1), dpi=50, facecolor=colour)


def test_pictures_stand_side_by_side(shown):
    notebook.display_pictures([figure("red"), figure("blue"), figure("black")], columns=2)
    (picture,) = shown
    pixels = imread(io.BytesIO(picture.data))[..., :3]
    assert pixels.shape == (100, 200, 3)
    corners = [pixels[0, 0], pixels[0, -1], pixels[-1, 0], pixels[-1, -1]]
    np.testing.assert_array_equal(corners, [(1, 0, 0), (0, 0, 1), (0, 0, 0), (1, 1, 1)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: notebook.display_audio(torch.ones(5), 8000), r"but is \[5\]"),
        (lambda: notebook.display_audio(torch.ones(2, 1, 5), 8000, ["a"]), "titles .* 2 wave"),
        (lambda: notebook.display_pictures([]), "0 figures in 1 columns"),
        (lambda: notebook.display_pictures([figure("red")], columns=0), "1 figures in 0 columns"),
    ],
)
def test_unsupported_input_raises(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_missing_ipython_raises_with_a_hint(monkeypatch):
    monkeypatch.setattr(notebook, "ipd", None)
    with pytest.raises(RuntimeError, match="pip install jupyter"):
        notebook.display_audio(torch.ones(1, 5), 8000)
