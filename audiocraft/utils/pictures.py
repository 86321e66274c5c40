"""Figures of audio: waveform and mel spectrogram."""

import contextlib
import math
import textwrap
import typing as tp
import warnings
from pathlib import Path

import numpy as np
import torch
import torchaudio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from .text import valid_unicode

N_FFT, N_MELS = 1024, 64
TITLE_WIDTH = 90  # characters of a line
TICKS = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)  # Hz, on the axis


def plot_audio(wav: Tensor, sample_rate: int, title: str = "", marked: slice | None = None):
    """Plot a waveform and its mel spectrogram.

    Args:
        wav: Waveform, `[C, T]`, on any device.
        sample_rate: Sample rate, in Hz.
        title: Text above the plot, shown literally and cut to two lines.
        marked: Samples to highlight, such as the style excerpt.

    Returns:
        A matplotlib figure.
    """
    figure, axes = _make_figure(columns=1)
    _plot_column(axes, wav, sample_rate, title)
    if marked is not None:
        axes[0, 0].axvspan(marked.start / sample_rate, marked.stop / sample_rate, alpha=0.2)
    return figure


def plot_side_by_side(wavs: tp.Mapping[str, Tensor], sample_rate: int) -> Figure:
    """Plot waveforms `[C, T]` and their mel spectrograms, one column for each title.

    Colours stand for the same levels in all columns.
    """
    figure, axes = _make_figure(columns=len(wavs))
    top = None
    for column, (title, wav) in enumerate(wavs.items()):
        top = _plot_column(axes[:, column : column + 1], wav, sample_rate, title, top)
    return figure


def _make_figure(columns: int) -> tuple[Figure, tp.Any]:
    figure = Figure(figsize=(8 * columns, 4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(2, columns, sharex=True, height_ratios=[1, 2], squeeze=False)


def _plot_column(
    axes: tp.Any, wav: Tensor, sample_rate: int, title: str, top: float | None = None
) -> float:
    """Plot into axes `[2, 1]`; returns the level of the brightest colour, `top` if it is given."""
    above, below = axes[:, 0]
    mono = wav.detach().float().cpu().mean(dim=0)
    mel = torchaudio.transforms.MelSpectrogram(
        sample_rate, n_fft=N_FFT, hop_length=N_FFT // 4, n_mels=N_MELS, f_max=sample_rate / 2
    )
    level = 10 * torch.log10(mel(mono).clamp(min=1e-8))
    duration = mono.shape[0] / sample_rate
    times = torch.linspace(0, duration, mono.shape[0])
    step = max(1, mono.shape[0] // 8000)
    above.plot(times[::step], mono[::step], linewidth=0.4)
    above.set(ylim=(-1, 1), ylabel="amplitude", xlim=(0, duration))
    above.set_title(_title_lines(title), parse_math=False, usetex=False)
    top = float(level.max()) if top is None else top
    extent = (0.0, duration, 0.0, float(N_MELS))
    below.imshow(
        level.numpy(), origin="lower", aspect="auto", extent=extent, vmin=top - 70, vmax=top
    )
    hertz = [f for f in TICKS if f <= sample_rate / 2]
    bands = [N_MELS * _mel(f) / _mel(sample_rate / 2) for f in hertz]
    below.set_yticks(bands, [f"{f / 1000:g}k" if f >= 1000 else str(f) for f in hertz])
    below.set(xlabel="seconds", ylabel="Hz")
    return top


def _title_lines(title: str) -> str:
    """Return at most two lines of printable characters."""
    text = "".join(c if c.isprintable() else " " for c in valid_unicode(title))
    lines = textwrap.wrap(text[: 4 * TITLE_WIDTH], TITLE_WIDTH, max_lines=2, placeholder=" …")
    return "\n".join(lines)


def _mel(hertz: float) -> float:
    """Return the position on the HTK mel scale, which torchaudio's bands divide evenly."""
    return math.log10(1 + hertz / 700)


@contextlib.contextmanager
def _without_glyph_warnings() -> tp.Iterator[None]:
    """Ignore characters that the font lacks, such as emoji; they are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    with _without_glyph_warnings():
        figure.savefig(path, dpi=90)


def figure_to_array(figure: Figure) -> np.ndarray:
    """Return the pixels of a figure, `[height, width, 3]` in 0…255."""
    canvas = FigureCanvasAgg(figure)
    with _without_glyph_warnings():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
