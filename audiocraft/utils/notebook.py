"""Listening in a notebook."""

import typing as tp

from torch import Tensor

try:
    import IPython.display as ipd
except ImportError:  # only notebooks have it
    ipd: tp.Any = None


def display_audio(samples: Tensor, sample_rate: int) -> None:
    """Show a player for each waveform.

    Args:
        samples: `[B, C, T]` or `[C, T]`, on any device.
        sample_rate: Samples per second.

    Raises:
        ValueError: The tensor has another number of dimensions.
        RuntimeError: IPython is missing.
    """
    if ipd is None:
        raise RuntimeError("display_audio shows players in a notebook: pip install jupyter.")
    if samples.dim() not in (2, 3):
        raise ValueError(f"samples must be [B, C, T] or [C, T] but is {list(samples.shape)}.")
    batch = samples.detach().float().cpu()
    for wav in batch if batch.dim() == 3 else batch[None]:
        ipd.display(ipd.Audio(wav.numpy(), rate=sample_rate))
