import pytest
import torch

from audiocraft.utils.pictures import figure_to_array, plot_audio, save_figure


def test_picture_of_audio_is_not_empty(tmp_path):
    wav = torch.sin(torch.arange(16000) * 0.2)[None].expand(2, -1)
    figure = plot_audio(wav, 16000, "a tone", marked=slice(4000, 8000))
    save_figure(figure, tmp_path / "tone.png")
    pixels = figure_to_array(figure)
    assert pixels.ndim == 3
    assert pixels.std() > 10
    assert (tmp_path / "tone.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "title",
    [
        "$100 or $200_{",
        "half an emoji \ud83c",
        "caf\udcc3\udca9",
        "<b>bold</b> [/] %s {x} \\alpha",
        "nothing \0 here",
        "word " * 2000,
        "x" * 10_000,
        "🎷\n\t",
        "",
    ],
)
def test_title_is_drawn_literally(title, tmp_path):
    figure = plot_audio(torch.zeros(1, 4000), 16000, title)
    save_figure(figure, tmp_path / "a.png")
    assert figure_to_array(figure).std() > 10
    drawn = figure.axes[0].get_title()
    assert len(drawn) < 200
    assert drawn.startswith(title[:5].strip("\n\t")) or not title.isascii()
