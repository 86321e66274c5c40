"""Makes what is asked for, and remembers how: from requests to waveforms with recipes.

The command line, the page and the notebook all come through here, so that a piece is the same
whoever asked for it.
"""

import hashlib
import json
import re
import typing as tp
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..data.audio import audio_write
from ..errors import AudiocraftError, ConfigError
from ..models.codecs.chunked_encoding import describe_tokenizer
from ..models.generation.style_excerpt import StyleExcerpt
from ..models.musicgen import MusicGen
from ..utils.pictures import plot_audio, save_figure
from .recipe import Recipe
from .request import PARAMETER_NAMES, Request
from .style_clip import excerpt_start, hash_file, load_excerpt

Report = tp.Callable[[float], None]  # seconds of music that are done


class Sample(tp.NamedTuple):
    """A piece of music and how it was made."""

    wav: Tensor  # [C, T], on the CPU
    recipe: Recipe


class SampleGenerator:
    """A loaded model that fulfils requests.

    Args:
        model: What makes the music. Its parameters are set anew for every batch.
    """

    def __init__(self, model: MusicGen):
        self.model = model
        self.model_hash = hash_model(model)

    def check(self, request: Request) -> Request:
        """A request with all its choices made, after seeing that the model can fulfil it.

        Raises:
            AudiocraftError: It cannot, or the clip cannot be used.
        """
        try:
            self._apply(request)
            if int(request.duration * self.model.frame_rate) < 1:
                raise ConfigError(
                    f"duration is {request.duration} s, less than the shortest piece: "
                    f"{1 / self.model.frame_rate:g} s."
                )
            if request.style is None:
                return request
            length = request.excerpt_length
            start = excerpt_start(request.style, length, request.excerpt_start, request.seed)
            request = replace(request, excerpt_start=start)
            self._clip(request)
            return request
        except AudiocraftError:
            raise
        except ValueError as error:
            raise ConfigError(_in_clear_names(str(error))) from error

    def generate(
        self, requests: tp.Sequence[Request], batch_size: int = 1, report: Report | None = None
    ) -> tp.Iterator[Sample]:
        """Fulfil requests, in order, as many at once as fit together.

        Args:
            requests: What `check` returned.
            batch_size: Most that are computed at once; only those with the same settings are.
            report: Told how many seconds of music are done. What it raises ends the work.
        """
        finished = 0.0
        for batch in split_into_batches(requests, batch_size):
            seconds = sum(request.duration for request in batch)

            def tell(done: int, total: int, before=finished, seconds=seconds) -> None:
                if report is not None:
                    report(before + seconds * done / total)

            for position, wav in enumerate(self._generate_batch(batch, tell)):
                yield Sample(wav, self._recipe(batch[position], wav, len(batch), position))
            finished += seconds

    def reproduce(self, recipe: Recipe, report: Report | None = None) -> Sample:
        """Make a piece again, in a batch of the same size and at the same place in it.

        Raises:
            ConfigError: The model or the clip is another one.
        """
        if recipe.model_hash != self.model_hash:
            raise ConfigError(
                f"The recipe was made with {recipe.model} of hash {recipe.model_hash}, but "
                f"{self.model.name} has the hash {self.model_hash}: other weights."
            )
        request = self.check(recipe.request)
        if request.style is not None and hash_file(request.style) != recipe.style_sha256:
            raise ConfigError(f"{request.style} is not the clip of the recipe: its bytes differ.")
        batch = [request] * recipe.batch_size
        samples = list(self.generate(batch, recipe.batch_size, report))
        return samples[recipe.position]

    def _generate_batch(
        self, batch: list[Request], tell: tp.Callable[[int, int], None]
    ) -> list[Tensor]:
        """Waveforms `[C, T]` of requests with the same settings."""
        self._apply(batch[0])
        self.model.set_custom_progress_callback(tell)
        texts = [request.text for request in batch]
        seeds = [request.seed for request in batch]
        try:
            if batch[0].style is None:
                wavs = self.model.generate(texts, seed=seeds)
            else:
                clips = [self._clip(request) for request in batch]
                wavs = self.model.generate_with_style(
                    texts,
                    [clip.wav for clip in clips],
                    self.model.sample_rate,
                    seed=seeds,
                    excerpt_start=[clip.start for clip in clips],
                )
        finally:
            self.model.set_custom_progress_callback(None)
        return list(wavs.float().cpu())

    def _apply(self, request: Request) -> None:
        """Set the model's parameters."""
        self.model.set_generation_params(
            duration=request.duration,
            cfg_coef=request.guidance,
            cfg_coef_beta=dict(request.settings[:-1])["text_weight"],
            use_sampling=request.temperature > 0,
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            extend_stride=request.extend_stride,
        )
        if request.style is not None:
            self.model.set_style_conditioner_params(
                eval_q=request.style_detail, excerpt_length=request.excerpt_length
            )

    def _clip(self, request: Request) -> StyleExcerpt:
        """The excerpt that a request with a style is to hear."""
        path, start = tp.cast(str, request.style), tp.cast(float, request.excerpt_start)
        rate, channels = self.model.sample_rate, self.model.audio_channels
        return load_excerpt(path, request.excerpt_length, start, rate, channels)

    def _recipe(self, request: Request, wav: Tensor, batch_size: int, position: int) -> Recipe:
        return Recipe(
            model=self.model.name,
            model_hash=self.model_hash,
            request=request,
            style_sha256=None if request.style is None else hash_file(request.style),
            batch_size=batch_size,
            position=position,
            machine={
                "device": str(self.model.device),
                "dtype": str(next(self.model.lm.emb.parameters()).dtype).removeprefix("torch."),
                "threads": torch.get_num_threads(),
                "torch": str(torch.__version__),
            },
            sample_rate=self.model.sample_rate,
            waveform_sha256=hash_waveform(wav),
        )


def split_into_batches(
    requests: tp.Sequence[Request], batch_size: int
) -> tp.Iterator[list[Request]]:
    """Neighbours with the same settings, at most `batch_size` at once."""
    batch: list[Request] = []
    for request in requests:
        if batch and (len(batch) == batch_size or request.settings != batch[0].settings):
            yield batch
            batch = []
        batch.append(request)
    if batch:
        yield batch


def write_sample(
    folder: Path, name: str, sample: Sample, format: str = "wav", picture: bool = False
) -> Path:
    """Write the audio of a piece, a picture if wanted, and at last its recipe.

    Args:
        folder: Where to.
        name: Stem of the files.
        piece: What to write.
        format: As `audio_write` knows them. The loudness is brought to −14 LUFS.
        picture: Also draw waveform and spectrogram.

    Returns:
        Path of the audio.
    """
    rate = sample.recipe.sample_rate
    audio = audio_write(
        folder / name,
        sample.wav,
        rate,
        format,
        strategy="loudness",
        loudness_compressor=True,
        log_clipping=False,
    )
    if picture:
        title = sample.recipe.request.text or "no text"
        save_figure(plot_audio(sample.wav, rate, title), folder / f"{name}.png")
    recipe = replace(sample.recipe, audio=audio.name)
    unfinished = folder / f".{name}.json.part"
    unfinished.write_text(json.dumps(recipe.to_dict(), indent=2, ensure_ascii=False))
    unfinished.replace(folder / f"{name}.json")
    return audio


def hash_waveform(wav: Tensor) -> str:
    """SHA-256 of samples, `[C, T]` float32."""
    return hashlib.sha256(wav.contiguous().numpy().data).hexdigest()


def hash_model(model: MusicGen) -> str:
    """What tells one model from another: all its weights, and those of its tokenizer."""
    digest = hashlib.sha256()
    for name, value in sorted(model.lm.state_dict().items()):
        digest.update(f"{name} {list(value.shape)}".encode())
        digest.update(value.float().cpu().contiguous().flatten().numpy().data)
    digest.update(describe_tokenizer(model.compression_model, "").hash.encode())
    return digest.hexdigest()[:16]


def _in_clear_names(message: str) -> str:
    """An error of `MusicGen` in the names that requests use."""
    for clear, original in PARAMETER_NAMES.items():
        message = re.sub(rf"\b{original}\b", clear, message)
    return message
