"""Style clips on the page: which may be used, and what they look like.

A clip is read once, block by block, so that a long one takes little memory. The picture is SVG: it
is redrawn at every step of a slider, and follows the colours of the page.
"""

import html
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from audiocraft.data.audio import audio_blocks, audio_info
from audiocraft.data.audio_utils import ENERGY_FLOOR
from audiocraft.errors import AudioError

ROOT = Path(__file__).parents[1]
MAX_BYTES = 50 * 2**20
MAX_SECONDS = 20 * 60.0
BARS = 300  # of the picture


@dataclass(frozen=True)
class StyleClip:
    """A clip that can be used."""

    path: Path
    duration: float  # seconds
    peaks: np.ndarray  # [BARS] or fewer, 0…1: the loudest sample of each part


def bundled_clips() -> dict[str, Path]:
    """Clips that come with the repository, by names to choose from."""
    ours = {
        path.stem.removesuffix("_01"): path
        for path in sorted((ROOT / "dataset" / "example").glob("*_01.*"))
        if path.suffix != ".json"
    }
    return {"electronic": ROOT / "assets" / "electronic.mp3"} | ours


def inspect_clip(path: Path) -> StyleClip:
    """Read a clip.

    Args:
        path: An audio file.

    Raises:
        AudioError: It is too large, too long, empty, silent or damaged.
    """
    size = path.stat().st_size if path.is_file() else 0
    if path.is_file() and size == 0:
        raise AudioError(f"{path} is empty. Give a file with a few seconds of music.")
    if size > MAX_BYTES:
        raise AudioError(
            f"{path} has {size / 2**20:.0f} MB, but a clip may have {MAX_BYTES // 2**20}. "
            "A few seconds of music are enough: cut them out first."
        )
    info = audio_info(path)
    if info.duration > MAX_SECONDS:
        raise AudioError(
            f"{path} lasts {_in_words(info.duration)}, but a clip may last "
            f"{_in_words(MAX_SECONDS)}. A few seconds of music are enough: cut them out first."
        )
    peaks = _peaks(path, math.ceil(info.duration * info.sample_rate / BARS))
    if not np.isfinite(peaks).all():
        raise AudioError(f"{path} holds samples that are no numbers: it is damaged.")
    if peaks.max() < ENERGY_FLOOR / 10:
        raise AudioError(f"{path} is silent: there is no style to hear. Give another clip.")
    return StyleClip(path, info.duration, np.minimum(peaks, 1.0))


def max_start(clip: StyleClip, length: float) -> float:
    """The last second, in tenths, at which an excerpt of so many seconds can start.

    Raises:
        AudioError: The clip is shorter than the excerpt.
    """
    spare = math.floor((clip.duration - length) * 10 + 1e-6) / 10
    if spare < 0:
        raise AudioError(
            f"{clip.path} lasts {clip.duration:.1f} s, but {length:g} s of it are to be heard. "
            "Give a longer clip, or choose a shorter excerpt."
        )
    return spare


def draw_clip(clip: StyleClip, start: float, length: float) -> str:
    """The waveform with the excerpt marked, as HTML.

    Args:
        clip: What is drawn.
        start: Second at which the excerpt starts.
        length: Seconds of the excerpt.
    """
    count = len(clip.peaks)
    tallest = float(clip.peaks.max())
    excerpt = (start / clip.duration * count, (start + length) / clip.duration * count)
    bars = {True: "", False: ""}
    for index, peak in enumerate(clip.peaks):
        height = max(0.6, 28 * float(peak) / tallest)
        bar = f"M{index + 0.5:.1f} {30 - height:.1f}v{2 * height:.1f}"
        bars[excerpt[0] <= index + 0.5 <= excerpt[1]] += bar
    name = html.escape(clip.path.name)
    words = f"heard: {start:.1f} to {start + length:.1f} s"
    return (
        f'<figure class="clip" role="img" aria-label="Waveform of {name}, {words}">'
        f'<svg viewBox="0 0 {count} 60" preserveAspectRatio="none">'
        f'<rect class="mark" x="{excerpt[0]:.1f}" width="{excerpt[1] - excerpt[0]:.1f}" height="60"/>'
        f'<path class="rest" d="{bars[False]}"/><path class="heard" d="{bars[True]}"/></svg>'
        f"<figcaption><span>0 s</span><strong>{words}</strong>"
        f"<span>{clip.duration:.1f} s</span></figcaption></figure>"
    )


def _peaks(path: Path, hop: int) -> np.ndarray:
    """The loudest sample of every `hop` samples."""
    peaks, rest = [], torch.zeros(0)
    for block in audio_blocks(path):
        rest = torch.cat([rest, block.abs().amax(dim=0)])
        whole = len(rest) // hop * hop
        peaks.append(rest[:whole].view(-1, hop).amax(dim=1))
        rest = rest[whole:]
    if len(rest):
        peaks.append(rest.amax()[None])
    return torch.cat(peaks).numpy()


def _in_words(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes / 60:.3g} hours"
