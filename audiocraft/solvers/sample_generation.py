"""Sample generation during training: each clip of the generation set in every conditioning mode.

Modes: text alone, style alone, both, continuation of the clip's beginning. The seed belongs to the
clip, so that epochs and modes are comparable.
"""

import dataclasses
import logging
import time
import typing as tp
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader

from ..data.audio import audio_write
from ..data.audio_utils import convert_audio
from ..data.sampler import ShardedSampler
from ..models.generation.guidance import Guidance
from ..models.generation.inputs import GenerationParams
from ..models.musicgen import DEFAULT_MAX_DURATION, MusicGen
from ..modules.conditioners import select_excerpt_start
from ..modules.sampling import Sampling
from ..utils.atomic_write import write_text
from ..utils.numbers import is_number
from ..utils.pictures import figure_to_array, plot_audio, save_figure
from ..utils.randomness import derive_seed
from ..utils.text import dump_json
from .loggers import Loggers

logger = logging.getLogger(__name__)

T = tp.TypeVar("T")
ProgressBar = tp.Callable[[list[T]], tp.Iterable[T]]


# What to generate.


@dataclass(frozen=True, kw_only=True)
class ConditioningModes:
    """Conditioning modes in which samples are generated.

    Args:
        prompted: Continue the beginning of every clip.
        unprompted: Generate without a beginning.
        use_text: Condition on descriptions if the model supports them.
        prompt_duration: Duration of the beginning that is continued, in seconds.
        remove_prompts: Remove that beginning from the result.

    Raises:
        ValueError: A value is out of its range; the message names it.
    """

    prompted: bool
    unprompted: bool
    use_text: bool
    prompt_duration: float
    remove_prompts: bool = False

    def __post_init__(self):
        for name in ("prompted", "unprompted", "use_text", "remove_prompts"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false but is {getattr(self, name)!r}.")
        if not is_number(self.prompt_duration) or self.prompt_duration <= 0:
            raise ValueError(f"prompt_duration must be above 0 s but is {self.prompt_duration!r}.")

    def supported_by(self, model: MusicGen) -> list[str]:
        """Names of the modes that `model` supports."""
        provider = model.lm.condition_provider
        text = self.use_text and bool(provider.text_conditions)
        style = "self_wav" in provider.wav_conditions
        modes = []
        if self.unprompted:
            modes += ["text"] * text + ["style"] * style + ["text_and_style"] * (text and style)
            modes = modes or ["unconditional"]
        return modes + ["continuation"] * self.prompted


@dataclass(frozen=True, kw_only=True)
class ConditioningClip:
    """Clip of the generation set."""

    name: str
    wav: Tensor  # [C, T], without padding
    description: str | None
    path: str | None
    seek_time: float | None  # seconds into the file
    seed: int


def get_conditioning_modes(cfg: DictConfig) -> ConditioningModes:
    """Build the conditioning modes of the node `generate.lm`."""
    lm = cfg.generate.lm
    return ConditioningModes(
        prompted=lm.prompted_samples,
        unprompted=lm.unprompted_samples,
        use_text=not lm.no_text_conditioning,
        prompt_duration=lm.prompt_duration or sample_duration(cfg) / 4,
        remove_prompts=lm.remove_prompts,
    )


def get_generation_params(cfg: DictConfig) -> GenerationParams:
    """Build the generation parameters of the node `generate.lm`."""
    lm = cfg.generate.lm
    return GenerationParams.within(
        cfg.dataset.segment_duration or DEFAULT_MAX_DURATION,
        duration=sample_duration(cfg),
        use_sampling=lm.use_sampling,
        sampling=Sampling(temperature=lm.temp, top_k=lm.top_k, top_p=lm.top_p),
        guidance=Guidance(
            cfg_coef=lm.get("cfg_coef", cfg.classifier_free_guidance.inference_coef),
            cfg_coef_beta=lm.get("cfg_coef_beta"),
            two_step=cfg.transformer_lm.get("two_step_cfg", False),
        ),
    )


def sample_duration(cfg: DictConfig) -> float:
    """Duration of each sample, in seconds: `generate.lm.gen_duration`, else that of a segment.

    Raises:
        ValueError: Both are null.
    """
    duration, segment = cfg.generate.lm.gen_duration, cfg.dataset.segment_duration
    if duration is None and segment is None:
        raise ValueError("gen_duration must be set if dataset.segment_duration is null.")
    return segment if duration is None else duration


def load_clips(loader: DataLoader, seed: int, rank: int = 0) -> list[ConditioningClip]:
    """Load this process's share of the clips of the generation set.

    Number, seed and name of a clip do not depend on the number of processes; clips that only fill
    the last batch are left out.
    """
    clips = []
    sampler = tp.cast(ShardedSampler, loader.sampler)
    for batch_index, batch in enumerate(loader):
        first = batch_index * sampler.batch_size + rank * len(batch)
        for number, (wav, info) in enumerate(zip(batch.wavs, batch.infos), start=first):
            if number >= sampler.num_samples:
                break
            clips.append(
                ConditioningClip(
                    name=f"{number:02d}_{Path(info.meta.path).stem}",
                    wav=wav[..., : info.n_frames],
                    description=info.to_condition_attributes().text.get("description"),
                    path=str(info.meta.path),
                    seek_time=info.seek_time,
                    seed=derive_seed(seed, "generate", number) % 2**31,
                )
            )
    return clips


# Files of a sample.


@dataclass(frozen=True, kw_only=True)
class SampleMetadata:
    """Everything needed to generate a sample again; the JSON file beside it."""

    mode: str  # unconditional | text | style | text_and_style | continuation
    description: str | None
    style_path: str | None = None
    style_seek_time: float | None = None  # seconds into the file where the style clip starts
    excerpt_start: float | None = None  # seconds into the clip
    excerpt_length: float | None = None  # seconds
    eval_q: int | None = None  # codebooks of the style bottleneck
    seed: int
    epoch: int
    parameters: dict[str, tp.Any] = field(default_factory=dict)


class SampleWriter:
    """Writes samples to `folder/<mode>/`, each with a JSON file and a picture.

    The clip that conditioned a sample lies beside it as `<name>.style.wav`. A picture that cannot
    be made is a warning, and the last attempt.

    Args:
        folder: Usually `samples/<epoch>` in the folder of the experiment.
        sample_rate: Sample rate of the samples, in Hz.
        loggers: Also receive audio and pictures.
        audio: Keyword arguments of `audio_write`, such as `format`, `strategy` and the
            `sample_rate` of the files.
    """

    def __init__(self, folder: Path, sample_rate: int, loggers: Loggers, audio: dict[str, tp.Any]):
        self.folder = folder
        self.sample_rate = sample_rate
        self.loggers = loggers
        self.audio: dict[str, tp.Any] = {"sample_rate": sample_rate} | audio
        self.with_pictures = True

    def write(
        self,
        name: str,
        wav: Tensor,
        metadata: SampleMetadata,
        style: Tensor | None = None,
        excerpt: slice | None = None,
    ) -> Path:
        """Write one sample; returns the path of its audio.

        Args:
            name: Stem of its files.
            wav: Waveform, `[C, T]`.
            metadata: Content of the JSON file.
            style: The clip that conditioned it, `[C, T]`.
            excerpt: Samples of `style` that the style conditioner encoded.
        """
        folder = self.folder / metadata.mode
        path = self._write_audio(folder / name, wav)
        write_text(folder / f"{name}.json", dump_json(asdict(metadata) | {"audio": path.name}))
        key = f"samples/{metadata.mode}/{name}"
        self.loggers.log_audio(key, wav.cpu(), self.sample_rate, metadata.epoch)
        title = f"{metadata.mode}: {metadata.description or 'no text'}"
        picture = self._draw(folder / f"{name}.png", wav, title)
        if picture is not None:
            self.loggers.log_image(key, figure_to_array(picture), metadata.epoch)
        if style is not None:
            self._write_audio(folder / f"{name}.style", style)
            self._draw(folder / f"{name}.style.png", style, "style clip", excerpt)
        return path

    def _write_audio(self, stem: Path, wav: Tensor) -> Path:
        rate = self.audio["sample_rate"]
        wav = convert_audio(wav.cpu(), self.sample_rate, rate, wav.shape[0])
        return audio_write(stem, wav, **self.audio)

    def _draw(self, path: Path, wav: Tensor, title: str, marked: slice | None = None) -> tp.Any:
        """Draw and save a figure; `None` if that fails."""
        if not self.with_pictures:
            return None
        try:
            figure = plot_audio(wav, self.sample_rate, title, marked)
            save_figure(figure, path)
        except Exception as error:
            self.with_pictures = False
            logger.warning("No pictures of samples: %s: %s", type(error).__name__, error)
            return None
        return figure


# Generation.


def write_samples(
    model: MusicGen,
    clips: list[ConditioningClip],
    modes: ConditioningModes,
    writer: SampleWriter,
    *,
    epoch: int,
    batch_size: int,
    progress: ProgressBar,
) -> dict[str, float]:
    """Generate from each clip in each mode and write the results.

    Clips shorter than the style excerpt are left out of style modes, with a warning.

    Returns:
        `samples`, their number, and `real_time_factor`, seconds of audio per second of computing.
    """
    names = modes.supported_by(model)
    is_style = {mode: "style" in mode for mode in names}
    long_enough = _long_enough(model, clips) if any(is_style.values()) else []
    batches = []
    for mode in names:
        chosen = long_enough if is_style[mode] else clips
        batches += [(mode, chosen[i : i + batch_size]) for i in range(0, len(chosen), batch_size)]
    seconds, audio_seconds, count = 0.0, 0.0, 0
    for mode, batch in progress(batches):
        starts = [_excerpt_start(model, clip) if is_style[mode] else None for clip in batch]
        began = time.perf_counter()
        wavs = _generate(model, mode, batch, starts, modes)  # [B, C, T]
        seconds += time.perf_counter() - began
        for clip, wav, start in zip(batch, wavs, starts):
            audio_seconds += wav.shape[-1] / model.sample_rate
            count += 1
            _write(writer, model, mode, clip, wav, start, epoch)
    return {"samples": count, "real_time_factor": audio_seconds / max(seconds, 1e-9)}


def _long_enough(model: MusicGen, clips: list[ConditioningClip]) -> list[ConditioningClip]:
    """Clips that contain a whole style excerpt."""
    style = model.style_conditioner
    fits = [style.is_long_enough(clip.wav.shape[-1], model.sample_rate) for clip in clips]
    if not all(fits):
        logger.warning(
            "No samples in the style of %s: shorter than an excerpt of %g s (style.length).",
            ", ".join(clip.name for clip, fit in zip(clips, fits) if not fit),
            style.excerpt_length,
        )
    return [clip for clip, fit in zip(clips, fits) if fit]


def _excerpt_start(model: MusicGen, clip: ConditioningClip) -> float:
    """Start of the style excerpt in the clip, in seconds."""
    duration = clip.wav.shape[-1] / model.sample_rate
    return select_excerpt_start(duration, model.style_conditioner.excerpt_length, clip.seed)


def _generate(
    model: MusicGen,
    mode: str,
    batch: list[ConditioningClip],
    starts: list[float | None],
    modes: ConditioningModes,
) -> Tensor:
    """Generate waveforms `[B, C, T]` from one batch in one mode."""
    rate = model.sample_rate
    texts = [clip.description if mode != "style" else None for clip in batch]
    seeds = [clip.seed for clip in batch]
    if mode == "unconditional":
        return model.generate_unconditional(len(batch), seed=seeds)
    if mode == "text":
        return model.generate(texts, seed=seeds)
    if mode == "continuation":
        length = min([int(modes.prompt_duration * rate), *(clip.wav.shape[-1] for clip in batch)])
        prompts = torch.stack([clip.wav[..., :length] for clip in batch])
        wavs = model.generate_continuation(prompts, rate, texts, seed=seeds)
        return wavs[..., length:] if modes.remove_prompts else wavs
    clips: list[Tensor | None] = [clip.wav for clip in batch]
    return model.generate_with_style(texts, clips, rate, seed=seeds, excerpt_start=starts)


def _write(
    writer: SampleWriter,
    model: MusicGen,
    mode: str,
    clip: ConditioningClip,
    wav: Tensor,
    start: float | None,
    epoch: int,
) -> None:
    """Write one sample with its metadata and, in style modes, the clip."""
    metadata = SampleMetadata(
        mode=mode,
        description=None if mode in ("style", "unconditional") else clip.description,
        seed=clip.seed,
        epoch=epoch,
        parameters=asdict(model.generation_params),
    )
    if start is None:
        writer.write(clip.name, wav, metadata)
        return
    style, rate = model.style_conditioner, model.sample_rate
    metadata = dataclasses.replace(
        metadata,
        style_path=clip.path,
        style_seek_time=clip.seek_time,
        excerpt_start=start,
        excerpt_length=style.excerpt_length,
        eval_q=style.eval_q,
    )
    begin = round(start * rate)
    excerpt = slice(begin, begin + int(style.excerpt_length * rate))
    writer.write(clip.name, wav, metadata, style=clip.wav, excerpt=excerpt)
