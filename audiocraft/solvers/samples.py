"""What a run sounds like: generated clips, what they were asked for, and a picture of each."""

import json
import typing as tp
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor

from ..data.audio import audio_write
from ..data.audio_utils import convert_audio
from ..utils.pictures import as_array, draw_sound, save_picture
from .loggers import Loggers


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything needed to make a sample again."""

    mode: str  # unconditional | text | style | text_and_style | continuation
    description: str | None
    style_path: str | None = None
    style_seek_time: float | None = None  # seconds into the file where the style clip starts
    excerpt_start: float | None = None  # seconds into the clip
    excerpt_length: float | None = None  # seconds
    eval_q: int | None = None  # codebooks of the bottleneck that passed
    seed: int
    epoch: int
    parameters: dict[str, tp.Any] = field(default_factory=dict)


class SampleFolder:
    """Writes samples under `folder/<mode>/`.

    Each sample has a wav, a JSON with its recipe and a picture; the clip that conditioned it
    lies beside it as `<name>.style.wav`.

    Args:
        folder: Usually `samples/<epoch>` in the folder of the experiment.
        sample_rate: Of the audio that is given, in Hz.
        loggers: Also shown there.
        audio: Keyword arguments of `audio_write`, such as `format`, `strategy` and the
            `sample_rate` of the files.
    """

    def __init__(self, folder: Path, sample_rate: int, loggers: Loggers, audio: dict[str, tp.Any]):
        self.folder = folder
        self.sample_rate = sample_rate
        self.loggers = loggers
        self.audio: dict[str, tp.Any] = {"sample_rate": sample_rate} | audio

    def write(
        self,
        name: str,
        wav: Tensor,
        recipe: Recipe,
        style: Tensor | None = None,
        heard: slice | None = None,
    ) -> Path:
        """Write one sample; return the path of its audio.

        Args:
            name: Stem of its files.
            wav: `[C, T]`.
            recipe: How it was made.
            style: The clip that conditioned it, `[C, T]`.
            heard: Samples of `style` that the model heard.
        """
        stem = self.folder / recipe.mode / name
        path = self._write_audio(stem, wav)
        text = json.dumps(asdict(recipe) | {"audio": path.name}, indent=2)
        stem.with_name(f"{name}.json").write_text(text)
        picture = draw_sound(
            wav, self.sample_rate, f"{recipe.mode}: {recipe.description or 'no text'}"
        )
        save_picture(picture, stem.with_name(f"{name}.png"))
        if style is not None:
            self._write_audio(stem.with_name(f"{name}.style"), style)
            heard_picture = draw_sound(style, self.sample_rate, "style clip", heard)
            save_picture(heard_picture, stem.with_name(f"{name}.style.png"))
        key = f"samples/{recipe.mode}/{name}"
        self.loggers.log_audio(key, wav.cpu(), self.sample_rate, recipe.epoch)
        self.loggers.log_image(key, as_array(picture), recipe.epoch)
        return path

    def _write_audio(self, stem: Path, wav: Tensor) -> Path:
        rate = self.audio["sample_rate"]
        wav = convert_audio(wav.cpu(), self.sample_rate, rate, wav.shape[0])
        return audio_write(stem, wav, **self.audio)
