"""Sample generator: requests to waveforms with recipes.

Command line, page and notebook all generate through `SampleGenerator`, so that a request gives the
same sample everywhere.
"""

import hashlib
import logging
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
from ..models.generation.windows import nearest_frame_count
from ..models.musicgen import MusicGen
from ..utils.atomic_write import write_text
from ..utils.pictures import plot_audio, save_figure
from ..utils.text import dump_json
from .recipe import Recipe
from .request import PARAMETER_NAMES, Request
from .style_clip import excerpt_start, hash_clip, load_excerpt

logger = logging.getLogger(__name__)

ProgressCallback = tp.Callable[[float], None]  # receives the seconds of audio generated so far


class Sample(tp.NamedTuple):
    """A generated waveform with its recipe."""

    wav: Tensor  # [C, T], on the CPU
    recipe: Recipe


class SampleGenerator:
    """A loaded model that generates the samples of requests.

    Args:
        model: The model. Its generation parameters are set for every batch.
    """

    def __init__(self, model: MusicGen):
        self.model = model
        self.model_hash = hash_model(model)

    def check(self, request: Request) -> Request:
        """Check that the model can generate a request; return it with its excerpt selected.

        Raises:
            AudiocraftError: It cannot, or the style clip cannot be used.
        """
        try:
            self._set_params(request)
            if nearest_frame_count(request.duration, self.model.frame_rate) < 1:
                raise ConfigError(
                    f"duration={request.duration} s is less than one frame of the model, "
                    f"{1 / self.model.frame_rate:g} s. Increase it."
                )
            if request.style is None:
                return request
            length = request.excerpt_length
            start = excerpt_start(request.style, length, request.excerpt_start, request.seed)
            request = replace(request, excerpt_start=start)
            self._load_excerpt(request)
            return request
        except AudiocraftError:
            raise
        except ValueError as error:
            raise ConfigError(_with_request_names(str(error))) from error

    def generate(
        self,
        requests: tp.Sequence[Request],
        batch_size: int = 1,
        progress: ProgressCallback | None = None,
    ) -> tp.Iterator[Sample]:
        """Generate the samples of requests, in order.

        Args:
            requests: Requests returned by `check`.
            batch_size: Maximum batch size; only requests of equal settings share a batch.
            progress: Called with the seconds of audio generated so far. An exception that it
                raises ends the generation.
        """
        finished = 0.0
        for batch in split_into_batches(requests, batch_size):
            seconds = sum(request.duration for request in batch)

            def report(done: int, total: int, before=finished, seconds=seconds) -> None:
                if progress is not None:
                    progress(before + seconds * done / total)

            hashes = [r.style and hash_clip(r.style) for r in batch]  # errors come before work
            for position, wav in enumerate(self._generate_batch(batch, report)):
                request, style_hash = batch[position], hashes[position]
                yield Sample(wav, self._recipe(request, style_hash, wav, len(batch), position))
            finished += seconds

    def reproduce(self, recipe: Recipe, progress: ProgressCallback | None = None) -> Sample:
        """Generate the sample of a recipe, at its position in a batch of its size.

        Raises:
            ConfigError: The model or the style clip is not that of the recipe.
        """
        if recipe.model_hash != self.model_hash:
            raise ConfigError(
                f"The recipe has the model {recipe.model} with hash {recipe.model_hash}, but "
                f"{self.model.name} has the hash {self.model_hash}: other weights."
            )
        request = self.check(recipe.request)
        if request.style is not None and hash_clip(request.style) != recipe.style_sha256:
            raise ConfigError(f"{request.style} is not the clip of the recipe: its bytes differ.")
        batch = [request] * recipe.batch_size
        samples = list(self.generate(batch, recipe.batch_size, progress))
        return samples[recipe.position]

    def _generate_batch(
        self, batch: list[Request], report: tp.Callable[[int, int], None]
    ) -> list[Tensor]:
        """Return waveforms `[C, T]` of requests with equal settings."""
        self._set_params(batch[0])
        self.model.set_custom_progress_callback(report)
        texts = [request.text for request in batch]
        seeds = [request.seed for request in batch]
        try:
            if batch[0].style is None:
                wavs = self.model.generate(texts, seed=seeds)
            else:
                excerpts = [self._load_excerpt(request) for request in batch]
                wavs = self.model.generate_with_style(
                    texts,
                    [excerpt.wav for excerpt in excerpts],
                    self.model.sample_rate,
                    seed=seeds,
                    excerpt_start=[excerpt.start for excerpt in excerpts],
                )
        finally:
            self.model.set_custom_progress_callback(None)
        return list(wavs.float().cpu())

    def _set_params(self, request: Request) -> None:
        """Set the generation parameters of the model."""
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

    def _load_excerpt(self, request: Request) -> StyleExcerpt:
        """Read the style excerpt of a checked request."""
        path, start = tp.cast(str, request.style), tp.cast(float, request.excerpt_start)
        rate, channels = self.model.sample_rate, self.model.audio_channels
        return load_excerpt(path, request.excerpt_length, start, rate, channels)

    def _recipe(
        self,
        request: Request,
        style_sha256: str | None,
        wav: Tensor,
        batch_size: int,
        position: int,
    ) -> Recipe:
        return Recipe(
            model=self.model.name,
            model_hash=self.model_hash,
            request=request,
            style_sha256=style_sha256,
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
    """Yield batches of consecutive requests with equal settings."""
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
    """Write the audio of a sample, optionally a picture, and finally its recipe.

    Args:
        folder: Output folder.
        name: Stem of the files.
        sample: The sample.
        format: Audio format, one of `FORMATS`. Loudness is normalized to −14 LUFS.
        picture: Whether to draw waveform and spectrogram. Failure to do so is a warning.

    Returns:
        Path of the audio.

    Raises:
        OSError: Audio or recipe cannot be written.
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
        try:
            title = sample.recipe.request.text or "no text"
            save_figure(plot_audio(sample.wav, rate, title), folder / f"{name}.png")
        except Exception as error:
            logger.warning("No picture of %s: %s: %s", name, type(error).__name__, error)
    recipe = replace(sample.recipe, audio=audio.name)
    write_text(folder / f"{name}.json", dump_json(recipe.to_dict()))
    return audio


def hash_waveform(wav: Tensor) -> str:
    """Return the SHA-256 of samples, `[C, T]` float32."""
    return hashlib.sha256(wav.contiguous().numpy().data).hexdigest()


def hash_model(model: MusicGen) -> str:
    """Return a hash of all weights of a model and of its tokenizer."""
    digest = hashlib.sha256()
    for name, value in sorted(model.lm.state_dict().items()):
        digest.update(f"{name} {list(value.shape)}".encode())
        digest.update(value.float().cpu().contiguous().flatten().numpy().data)
    digest.update(describe_tokenizer(model.compression_model, "").hash.encode())
    return digest.hexdigest()[:16]


def _with_request_names(message: str) -> str:
    """Replace argument names of `MusicGen` in an error by those of `Request`."""
    for name, original in PARAMETER_NAMES.items():
        message = re.sub(rf"\b{original}\b", name, message)
    return message
