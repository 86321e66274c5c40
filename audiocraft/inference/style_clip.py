"""Style clips in files: position of the excerpt, and reading of nothing but the excerpt."""

import hashlib
import typing as tp

from ..data.audio import audio_info, audio_read
from ..data.audio_utils import ENERGY_FLOOR
from ..data.io.files import open_binary
from ..errors import AudioError
from ..models.generation.style_excerpt import StyleExcerpt, convert_excerpt, margin_range
from ..modules.conditioners import select_excerpt_start


def excerpt_start(path: str, length: float, start: float | None, seed: int) -> float:
    """Return where the excerpt of a file starts, in seconds; see `select_excerpt_start`.

    Raises:
        AudioError: The file cannot be read, or the excerpt does not lie inside it.
    """
    duration = audio_info(path).duration
    try:
        return select_excerpt_start(duration, length, seed, start)
    except ValueError as error:
        raise AudioError(f"{path}: {error}") from None


def load_excerpt(
    path: str, length: float, start: float, sample_rate: int, channels: int
) -> StyleExcerpt:
    """Read the excerpt of a file with a margin on both sides.

    Args:
        path: Audio file, or a member of a zip archive (`music.zip:a.mp3`).
        length: Length of the excerpt, in seconds.
        start: Start of the excerpt in the file, in seconds.
        sample_rate: Sample rate of the model, in Hz.
        channels: Channels of the model.

    Raises:
        AudioError: The file is damaged, or the excerpt is silent.
    """
    begin, duration = margin_range(start, length)
    wav, rate = audio_read(path, begin, duration)
    part = convert_excerpt(wav, rate, start - begin, length, sample_rate, channels)
    first, num_samples = round((start - begin) * sample_rate), int(length * sample_rate)
    excerpt = part.wav[:, first : first + num_samples]
    if excerpt.shape[-1] < num_samples - sample_rate // 100:
        raise AudioError(
            f"{path} ends before {start + length:.2f} s, earlier than its header states: the file "
            "is damaged."
        )
    if not excerpt.isfinite().all():
        raise AudioError(f"{path} contains samples that are not finite: the file is damaged.")
    if excerpt.square().mean().sqrt() < ENERGY_FLOOR / 10:
        raise AudioError(
            f"{path} is silent from {start:.2f} to {start + length:.2f} s. Choose another "
            "`excerpt_start` or another clip."
        )
    return part


def hash_clip(path: str) -> str:
    """Return the SHA-256 of a file, or of a member of a zip archive.

    Raises:
        AudioError: It cannot be read.
    """
    try:
        with open_binary(path) as file:
            return hashlib.file_digest(tp.cast(tp.Any, file), "sha256").hexdigest()
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror or error}.") from None
