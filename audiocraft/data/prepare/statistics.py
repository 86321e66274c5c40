"""Audio statistics: level, silence, clipping, loudness and content of a file.

All are computed in one pass over the decoded samples, block by block, in constant memory.

Method: loudness after ITU-R BS.1770-4, its filters after R. Bristow-Johnson's audio EQ cookbook.
torchaudio and pyloudnorm compute the same from the whole waveform in memory; here a file may last
hours.
"""

import base64
import hashlib
import math
import typing as tp
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.signal import sosfilt
from tqdm import tqdm

from ...errors import AudioError
from ..io.decoders import opened
from ..resume_log import ResumeLog
from ..worker_pool import TIME_LIMIT, map_in_workers

HOP = 0.1  # seconds per step of the level measurement
SILENCE_DB = -60.0  # RMS of a step below which it is silent
FULL_SCALE = 0.999  # samples at least this large may be clipped
FLAT_TOP = 4  # consecutive samples at full scale that count as clipped
BANDS = np.geomspace(100, 4000, 17)  # Hz, edges of the bands of the fingerprint
SLICES = 64  # time slices of the fingerprint, evenly spaced over the file
SLICE = 4  # steps per slice
DYNAMICS = 6.0  # range of the fingerprint below its maximum, natural logarithm; 26 dB
SURROUND_WEIGHT = 1.41  # of the surround channels in the loudness


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioStatistics:
    """Statistics of a file. All values can be written as JSON."""

    kind: str  # format detected from the content: wav, mp3, mov, …
    sample_rate: int  # Hz
    channels: int
    duration: float  # seconds, decoded
    peak: float  # maximum absolute sample
    finite: bool  # whether all samples are finite
    silence: float  # share of the time that is silent
    clipped: float  # share of the samples that are clipped
    digest: str  # equal for equal samples, at 16 bits
    fingerprint: str  # similar for the same music; empty for a constant sound
    defect: str = ""  # of the header, if the content could be read nevertheless
    loudness: float | None = None  # LUFS; None if not measured or silent


def compute_audio_statistics(path: str | Path, with_loudness: bool = False) -> AudioStatistics:
    """Decode a whole file and compute its statistics.

    Args:
        path: A file, or a zip member (`archive.zip:inner.mp3`).
        with_loudness: Also measure the loudness.

    Raises:
        AudioError: The file cannot be decoded to its end, or contains no audio.
    """
    with opened(path) as (reader, name):
        accumulator = _StatisticsAccumulator(reader.sample_rate, with_loudness)
        for block in reader.blocks():
            accumulator.add(block.numpy())
        if not accumulator.num_samples:
            raise AudioError(f"{name} contains no audio: its length is zero.")
        return accumulator.finish(reader.kind, reader.defect)


def compute_file_statistics(
    paths: tp.Sequence[str],
    workers: int,
    time_limit: float = TIME_LIMIT,
    resume_log: ResumeLog | None = None,
    with_loudness: bool = False,
) -> dict[str, AudioStatistics | AudioError]:
    """Compute the statistics of files in a worker pool, with a progress bar.

    Args:
        paths: The files.
        workers: Number of processes; 0 runs in this one, which a damaged file may crash.
        time_limit: Seconds after which a file is abandoned.
        resume_log: Results of an interrupted call.
        with_loudness: Also measure the loudness.

    Returns:
        Statistics or error of each file, by path.
    """
    found: dict[str, AudioStatistics | AudioError] = {}
    for path in paths:
        known = resume_log and resume_log.find(path)
        if known:
            found[path] = AudioStatistics(**known)
    missing = [path for path in dict.fromkeys(paths) if path not in found]
    results = map_in_workers(
        compute_audio_statistics, missing, workers, time_limit, with_loudness=with_loudness
    )
    with tqdm(total=len(missing), unit="file") as bar:
        for path, result in zip(missing, results, strict=True):
            found[path] = result
            if resume_log and isinstance(result, AudioStatistics):
                resume_log.add(path, asdict(result))
            bar.update()
    return found


class _StatisticsAccumulator:
    """Accumulates statistics over the blocks of a file."""

    def __init__(self, sample_rate: int, with_loudness: bool):
        self.sample_rate = sample_rate
        self.hop = max(1, round(HOP * sample_rate))
        self.channels = self.num_samples = self.num_flat = 0
        self.peak, self.finite = 0.0, True
        self.hash = hashlib.blake2b(digest_size=16)
        self.rest: np.ndarray | None = None  # samples of an incomplete step, [C, T]
        self.weighting = k_weighting(sample_rate) if with_loudness else None
        self.weighting_state: np.ndarray | None = None
        self.powers: list[np.ndarray] = []  # [steps], mean square over all channels
        self.bands: list[np.ndarray] = []  # [steps, bands]
        self.weighted: list[np.ndarray] = []  # [steps], of K-weighted samples
        self.to_bands = _band_matrix(self.hop, sample_rate)

    def add(self, block: np.ndarray) -> None:
        """Add a block, `[C, T]`."""
        if not np.isfinite(block.sum(dtype=np.float64)):
            self.finite = False
            block = np.nan_to_num(block, posinf=0.0, neginf=0.0)
        self.channels = block.shape[0]
        self.num_samples += block.shape[1]
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
        self.num_flat += _count_flat(block)
        pcm = np.clip(np.rint(block * 2**15), -(2**15), 2**15 - 1).astype("<i2")
        self.hash.update(pcm.T.tobytes())
        if self.rest is not None:
            block = np.concatenate([self.rest, block], axis=1)
        whole = block.shape[1] // self.hop * self.hop
        self.rest = block[:, whole:].copy()
        if whole:
            self._measure(block[:, :whole])

    def _measure(self, block: np.ndarray) -> None:
        """Measure the levels of complete steps, `[C, T]`."""
        channels = block.shape[0]
        self.powers.append(np.square(block).reshape(channels, -1, self.hop).mean(axis=(0, 2)))
        mono = block.mean(axis=0).reshape(-1, self.hop)
        spectrum = np.fft.rfft(mono * np.hanning(self.hop).astype(np.float32), axis=1)
        self.bands.append(np.square(np.abs(spectrum)) @ self.to_bands)
        if self.weighting is not None:
            state = self.weighting_state
            state = np.zeros((len(self.weighting), channels, 2)) if state is None else state
            weighted, self.weighting_state = sosfilt(self.weighting, block, axis=1, zi=state)
            power = np.square(weighted).reshape(channels, -1, self.hop).mean(axis=2)
            weights = [SURROUND_WEIGHT if 3 <= c < 5 else 1.0 for c in range(channels)]
            self.weighted.append(np.array(weights) @ power)

    def finish(self, kind: str, defect: str) -> AudioStatistics:
        """Statistics of all blocks."""
        if not self.powers:  # shorter than a step
            missing = self.hop - self.num_samples
            self._measure(np.pad(tp.cast(np.ndarray, self.rest), ((0, 0), (0, missing))))
        powers = np.concatenate(self.powers)
        loudness = _integrate(np.concatenate(self.weighted)) if self.weighted else None
        return AudioStatistics(
            kind=kind,
            defect=defect,
            sample_rate=self.sample_rate,
            channels=self.channels,
            duration=self.num_samples / self.sample_rate,
            peak=self.peak,
            finite=self.finite,
            silence=float((powers < 10 ** (SILENCE_DB / 10)).mean()),
            clipped=self.num_flat / self.num_samples / self.channels,
            digest=f"{self.hash.hexdigest()}-{self.sample_rate}-{self.channels}",
            fingerprint=_fingerprint(np.concatenate(self.bands)),
            loudness=loudness,
        )


def _count_flat(block: np.ndarray) -> int:
    """Number of samples of `[C, T]` after `FLAT_TOP` - 1 others at full scale."""
    hot = np.abs(block) >= FULL_SCALE
    if not hot.any():
        return 0
    flat = hot[:, FLAT_TOP - 1 :].copy()
    for earlier in range(FLAT_TOP - 1):
        flat &= hot[:, earlier : earlier + flat.shape[1]]
    return int(flat.sum())


def _band_matrix(hop: int, sample_rate: int) -> np.ndarray:
    """Matrix that sums the power of the bins of a step into bands, `[bins, bands]`."""
    frequencies = np.fft.rfftfreq(hop, 1 / sample_rate)[:, None]
    return ((BANDS[:-1] <= frequencies) & (frequencies < BANDS[1:])).astype(np.float32)


def _fingerprint(bands: np.ndarray) -> str:
    """Encode the power in `bands` over time, `[steps, bands]`, as text.

    Nearly invariant to level, sample rate and lossy formats.
    """
    last = max(0, len(bands) - SLICE)
    starts = np.round(np.linspace(0, last, SLICES)).astype(int)
    slices = np.stack([bands[start : start + SLICE].mean(axis=0) for start in starts])
    maximum = slices.max()
    if maximum <= 0:
        return ""
    contour = np.log(np.maximum(slices / maximum, math.exp(-DYNAMICS)))
    contour -= contour.mean(axis=0)
    largest = np.abs(contour).max()
    if largest < 0.2:  # a constant sound correlates with any other
        return ""
    return base64.b64encode(np.rint(contour / largest * 127).astype(np.int8).tobytes()).decode()


def k_weighting(sample_rate: int) -> np.ndarray:
    """K-weighting filters of BS.1770 as second-order sections, `[2, 6]`: high shelf, high pass."""
    gain, q, center = 10 ** (4.0 / 40), 2**-0.5, 1500.0
    omega = 2 * math.pi * center / sample_rate
    alpha, cosine, root = math.sin(omega) / 2 / q, math.cos(omega), math.sqrt(gain)
    up, down, ripple = gain + 1, gain - 1, 2 * root * alpha
    shelf = [
        gain * (up + down * cosine + ripple),
        -2 * gain * (down + up * cosine),
        gain * (up + down * cosine - ripple),
        up - down * cosine + ripple,
        2 * (down - up * cosine),
        up - down * cosine - ripple,
    ]
    q, center = 0.5, 38.0
    omega = 2 * math.pi * center / sample_rate
    alpha, cosine = math.sin(omega) / 2 / q, math.cos(omega)
    bend = (1 + cosine) / 2
    high_pass = [bend, -2 * bend, bend, 1 + alpha, -2 * cosine, 1 - alpha]
    sections = np.array([shelf, high_pass])
    return sections / sections[:, 3:4]


def _integrate(powers: np.ndarray) -> float | None:
    """Integrated loudness of K-weighted powers `[steps]`, in LUFS; `None` for silence."""
    steps = round(0.4 / HOP)
    if len(powers) < steps:
        return None
    blocks = np.convolve(powers, np.full(steps, 1 / steps), mode="valid")
    loud = blocks[_lufs(blocks) > -70]
    if not len(loud):
        return None
    loud = loud[_lufs(loud) > _lufs(loud.mean()) - 10]
    return float(_lufs(loud.mean()))


def _lufs(power: tp.Any) -> tp.Any:
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-12))
