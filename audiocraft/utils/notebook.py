"""Audio players and figures in notebooks."""

import io
import typing as tp

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from torch import Tensor

from .pictures import figure_to_array

try:
    import IPython.display as ipd
except ImportError:  # only notebooks have it
    ipd: tp.Any = None


def display_audio(
    samples: Tensor, sample_rate: int, titles: tp.Sequence[str] | None = None
) -> None:
    """Display an audio player for each waveform.

    Args:
        samples: `[B, C, T]` or `[C, T]`, on any device.
        sample_rate: Samples per second.
        titles: Title of each player.

    Raises:
        ValueError: The tensor has other dimensions, or the number of titles differs.
        RuntimeError: IPython is not installed.
    """
    _require_notebook("display_audio")
    if samples.dim() not in (2, 3):
        raise ValueError(f"samples must be [B, C, T] or [C, T] but is {list(samples.shape)}.")
    batch = samples.detach().float().cpu()
    batch = batch if batch.dim() == 3 else batch[None]
    if titles is not None and len(titles) != len(batch):
        raise ValueError(f"titles has {len(titles)} entries for {len(batch)} waveforms.")
    for i, wav in enumerate(batch):
        if titles is not None:
            ipd.display(ipd.Markdown(f"**{titles[i]}**"))
        ipd.display(ipd.Audio(wav.numpy(), rate=sample_rate))


def display_pictures(figures: tp.Sequence[Figure], columns: int = 1) -> None:
    """Display figures of equal size in a grid, as one image.

    Args:
        figures: Figures, such as those of `audiocraft.utils.pictures`.
        columns: Figures per row.

    Raises:
        ValueError: There are no figures, or no columns.
        RuntimeError: IPython is not installed.
    """
    _require_notebook("display_pictures")
    if not figures or columns < 1:
        raise ValueError(
            f"Cannot display {len(figures)} figures in {columns} columns; both must be at least 1."
        )
    pixels = [figure_to_array(figure) for figure in figures]
    white = np.full_like(pixels[0], 255)
    pixels += [white] * (-len(pixels) % columns)
    rows = [np.hstack(pixels[i : i + columns]) for i in range(0, len(pixels), columns)]
    png = io.BytesIO()
    imsave(png, np.vstack(rows), format="png")
    ipd.display(ipd.Image(data=png.getvalue(), format="png"))


def _require_notebook(function: str) -> None:
    if ipd is None:
        raise RuntimeError(f"{function} needs a notebook: pip install jupyter.")
