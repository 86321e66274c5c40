"""Style clips of the page: validation and waveform picture.

A clip is read once, in blocks, so that long ones take little memory. The picture is SVG: it is
redrawn at every step of a slider, and follows the colours of the page.
"""

import html
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from audiocraft.data.audio import audio_blocks, audio_info
from audiocraft.data.audio_utils import ENERGY_FLOOR
from audiocraft.environment import ROOT
from audiocraft.errors import AudioError

MAX_BYTES = 50 * 2**20
MAX_SECONDS = 20 * 60.0
NUM_BARS = 300  # of the picture


@dataclass(frozen=True)
class StyleClip:
    """A clip that can be used."""

    path: Path
    duration: float  # seconds
    peaks: np.ndarray  # at most NUM_BARS peak amplitudes of consecutive parts, 0…1


def bundled_clips() -> dict[str, Path]:
    """Return the clips that come with the repository, by name."""
    examples = {
        path.stem.removesuffix("_01"): path
        for path in sorted((ROOT / "dataset" / "example").glob("*_01.*"))
        if path.suffix != ".json"
    }
    return {"electronic": ROOT / "assets" / "electronic.mp3"} | examples


def inspect_clip(path: Path) -> StyleClip:
    """Read a clip and check that it can be used.

    Raises:
        AudioError: The file is too large, too long, empty, silent or damaged.
    """
    size = path.stat().st_size if path.is_file() else 0
    if path.is_file() and size == 0:
        raise AudioError(f"{path} is empty. Choose a file with a few seconds of music.")
    if size > MAX_BYTES:
        raise AudioError(
            f"{path} has {size / 2**20:.0f} MB; the maximum is {MAX_BYTES // 2**20}. A few seconds "
            "of music are enough: cut them out first."
        )
    info = audio_info(path)
    if info.duration > MAX_SECONDS:
        raise AudioError(
            f"{path} lasts {_in_words(info.duration)}; the maximum is {_in_words(MAX_SECONDS)}. "
            "A few seconds of music are enough: cut them out first."
        )
    peaks = _peaks(path, math.ceil(info.duration * info.sample_rate / NUM_BARS))
    if not np.isfinite(peaks).all():
        raise AudioError(f"{path} contains samples that are not finite: the file is damaged.")
    if peaks.max() < ENERGY_FLOOR / 10:
        raise AudioError(f"{path} is silent. Choose another clip.")
    return StyleClip(path, info.duration, np.minimum(peaks, 1.0))


def max_start(clip: StyleClip, length: float) -> float:
    """Return the latest start of an excerpt, in seconds, rounded down to tenths.

    Raises:
        AudioError: The clip is shorter than the excerpt.
    """
    slack = math.floor((clip.duration - length) * 10 + 1e-6) / 10
    if slack < 0:
        raise AudioError(
            f"{clip.path} lasts {clip.duration:.1f} s, less than the excerpt of {length:g} s. "
            "Choose a longer clip, or choose a shorter excerpt."
        )
    return slack


def draw_clip(clip: StyleClip, start: float, length: float) -> str:
    """Return the waveform with the excerpt highlighted, as HTML.

    Args:
        clip: The clip.
        start: Start of the excerpt, in seconds.
        length: Length of the excerpt, in seconds.
    """
    count = len(clip.peaks)
    highest = float(clip.peaks.max())
    first, last = (count * seconds / clip.duration for seconds in (start, start + length))
    inside, outside = "", ""
    for index, peak in enumerate(clip.peaks):
        height = max(0.6, 28 * float(peak) / highest)
        bar = f"M{index + 0.5:.1f} {30 - height:.1f}v{2 * height:.1f}"
        if first <= index + 0.5 <= last:
            inside += bar
        else:
            outside += bar
    name = html.escape(clip.path.name)
    label = f"excerpt: {start:.1f} to {start + length:.1f} s"
    return (
        f'<figure class="clip" role="img" aria-label="Waveform of {name}, {label}">'
        f'<svg viewBox="0 0 {count} 60" preserveAspectRatio="none">'
        f'<rect class="excerpt-area" x="{first:.1f}" width="{last - first:.1f}" height="60"/>'
        f'<path class="waveform" d="{outside}"/><path class="excerpt" d="{inside}"/></svg>'
        f"<figcaption><span>0 s</span><strong>{label}</strong>"
        f"<span>{clip.duration:.1f} s</span></figcaption></figure>"
    )


def _peaks(path: Path, hop: int) -> np.ndarray:
    """Return the peak amplitude of every `hop` samples."""
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
