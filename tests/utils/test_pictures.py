import torch

from audiocraft.utils.pictures import as_array, draw_sound, save_picture


def test_a_sound_becomes_a_picture_with_content(tmp_path):
    wav = torch.sin(torch.arange(16000) * 0.2)[None].expand(2, -1)
    figure = draw_sound(wav, 16000, "a tone", marked=slice(4000, 8000))
    save_picture(figure, tmp_path / "tone.png")
    pixels = as_array(figure)
    assert pixels.ndim == 3
    assert pixels.std() > 10
    assert (tmp_path / "tone.png").read_bytes().startswith(b"\x89PNG")
