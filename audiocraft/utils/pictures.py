"""Sound to look at: the waveform above, the mel spectrogram below."""

import math
import textwrap
from pathlib import Path

import numpy as np
import torch
import torchaudio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

N_FFT, N_MELS = 1024, 64
LABELLED = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)  # Hz, on the axis


def plot_audio(wav: Tensor, sample_rate: int, title: str = "", marked: slice | None = None):
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
        sample_rate, n_fft=N_FFT, hop_length=N_FFT // 4, n_mels=N_MELS, f_max=sample_rate / 2
    )
    level = 10 * torch.log10(mel(mono).clamp(min=1e-8))
    duration = mono.shape[0] / sample_rate

    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2])
    times = torch.linspace(0, duration, mono.shape[0])
    step = max(1, mono.shape[0] // 8000)
    above.plot(times[::step], mono[::step], linewidth=0.4)
    above.set(ylim=(-1, 1), ylabel="amplitude", title=textwrap.fill(title, 90), xlim=(0, duration))
    if marked is not None:
        above.axvspan(marked.start / sample_rate, marked.stop / sample_rate, alpha=0.2)
    top = float(level.max())
    extent = (0.0, duration, 0.0, float(N_MELS))
    below.imshow(
        level.numpy(), origin="lower", aspect="auto", extent=extent, vmin=top - 70, vmax=top
    )
    hertz = [f for f in LABELLED if f <= sample_rate / 2]
    bands = [N_MELS * _mel(f) / _mel(sample_rate / 2) for f in hertz]
    below.set_yticks(bands, [f"{f / 1000:g}k" if f >= 1000 else str(f) for f in hertz])
    below.set(xlabel="seconds", ylabel="Hz")
    return figure


def _mel(hertz: float) -> float:
    """Position on the HTK mel scale, which torchaudio's bands divide evenly."""
    return math.log10(1 + hertz / 700)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=90)


def figure_to_array(figure: Figure) -> np.ndarray:
    """The pixels of a figure, `[height, width, 3]` in 0…255."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
