"""Sound to look at: the waveform above, the mel spectrogram below."""

from pathlib import Path

import numpy as np
import torch
import torchaudio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


def draw_sound(wav: Tensor, sample_rate: int, title: str = "", marked: slice | None = None):
    """Draw a waveform and its mel spectrogram.

    Args:
        wav: Waveform, `[C, T]`, on any device.
        sample_rate: Samples per second.
        title: Written above.
        marked: Samples to highlight, such as the excerpt that a model heard.

    Returns:
        A matplotlib figure.
    """
    mono = wav.detach().float().cpu().mean(dim=0)
    mel = torchaudio.transforms.MelSpectrogram(
        sample_rate, n_fft=1024, hop_length=256, n_mels=64, f_max=sample_rate / 2
    )
    level = 10 * torch.log10(mel(mono).clamp(min=1e-8))
    duration = mono.shape[0] / sample_rate

    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2])
    times = torch.linspace(0, duration, mono.shape[0])
    step = max(1, mono.shape[0] // 8000)
    above.plot(times[::step], mono[::step], linewidth=0.4)
    above.set(ylim=(-1, 1), ylabel="amplitude", title=title, xlim=(0, duration))
    if marked is not None:
        above.axvspan(marked.start / sample_rate, marked.stop / sample_rate, alpha=0.2)
    top = float(level.max())
    extent = (0.0, duration, 0.0, 64.0)
    below.imshow(
        level.numpy(), origin="lower", aspect="auto", extent=extent, vmin=top - 70, vmax=top
    )
    below.set(xlabel="seconds", ylabel="mel band")
    return figure


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=90)


def as_array(figure: Figure) -> np.ndarray:
    """The pixels of a figure, `[height, width, 3]` in 0…255."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
