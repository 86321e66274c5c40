import torch

from audiocraft.utils.pictures import figure_to_array, plot_audio, save_figure


def test_a_sound_becomes_a_picture_with_content(tmp_path):
    wav = torch.sin(torch.arange(16000) * 0.2)[None].expand(2, -1)
    figure = plot_audio(wav, 16000, "a tone", marked=slice(4000, 8000))
    save_figure(figure, tmp_path / "tone.png")
    pixels = figure_to_array(figure)
    assert pixels.ndim == 3
    assert pixels.std() > 10
    assert (tmp_path / "tone.png").read_bytes().startswith(b"\x89PNG")
