"""Letting a model be heard while it learns: the same clips, in every way of conditioning it.

Every clip of the generation set is used as a musician would: its description alone, its sound
alone, both together, its beginning to go on from. A seed belongs to the clip, so that epochs and
ways can be compared.
"""

import dataclasses
import json
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
from ..utils.numbers import is_number
from ..utils.pictures import figure_to_array, plot_audio, save_figure
from ..utils.randomness import derive_seed
from .loggers import Loggers


@dataclass(frozen=True, kw_only=True)
class SampleMetadata:
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


class SampleWriter:
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
        recipe: SampleMetadata,
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
        picture = plot_audio(
            wav, self.sample_rate, f"{recipe.mode}: {recipe.description or 'no text'}"
        )
        save_figure(picture, stem.with_name(f"{name}.png"))
        if style is not None:
            self._write_audio(stem.with_name(f"{name}.style"), style)
            heard_picture = plot_audio(style, self.sample_rate, "style clip", heard)
            save_figure(heard_picture, stem.with_name(f"{name}.style.png"))
        key = f"samples/{recipe.mode}/{name}"
        self.loggers.log_audio(key, wav.cpu(), self.sample_rate, recipe.epoch)
        self.loggers.log_image(key, figure_to_array(picture), recipe.epoch)
        return path

    def _write_audio(self, stem: Path, wav: Tensor) -> Path:
        rate = self.audio["sample_rate"]
        wav = convert_audio(wav.cpu(), self.sample_rate, rate, wav.shape[0])
        return audio_write(stem, wav, **self.audio)


logger = logging.getLogger(__name__)

Progress = tp.Callable[[tp.Sequence[tp.Any]], tp.Iterable[tp.Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConditioningClip:
    """One clip of the generation set."""

    name: str
    wav: Tensor  # [C, T], without padding
    description: str | None
    path: str | None
    seek_time: float | None  # seconds
    seed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConditioningModes:
    """In which ways a model is asked for music; what it was not trained for is left out.

    Args:
        prompted: Also continue the beginning of every clip.
        unprompted: Start from nothing.
        use_text: Give the description where the model reads one.
        prompt_duration: Seconds of the beginning that is continued.
        remove_prompts: Leave that beginning out of the result.
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

    def of(self, model: MusicGen) -> list[str]:
        """Names of the ways that fit `model`."""
        provider = model.lm.condition_provider
        text = self.use_text and bool(provider.text_conditions)
        style = "self_wav" in provider.wav_conditions
        ways = []
        if self.unprompted:
            ways += ["text"] * text + ["style"] * style + ["text_and_style"] * (text and style)
            ways = ways or ["unconditional"]
        return ways + ["continuation"] * self.prompted


def get_conditioning_modes(cfg: DictConfig) -> ConditioningModes:
    """The ways that `generate.lm` of a resolved configuration asks for."""
    lm = cfg.generate.lm
    return ConditioningModes(
        prompted=lm.prompted_samples,
        unprompted=lm.unprompted_samples,
        use_text=not lm.no_text_conditioning,
        prompt_duration=lm.prompt_duration or sample_duration(cfg) / 4,
        remove_prompts=lm.remove_prompts,
    )


def sample_duration(cfg: DictConfig) -> float:
    """Seconds of each sample.

    Raises:
        ValueError: Nothing says how long they are.
    """
    given, segment = cfg.generate.lm.gen_duration, cfg.dataset.segment_duration
    if given is None and segment is None:
        raise ValueError("gen_duration is needed where dataset.segment_duration is null.")
    return segment if given is None else given


def get_generation_params(cfg: DictConfig) -> GenerationParams:
    """How `generate.lm` of a resolved configuration has a model generate."""
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


def load_clips(loader: DataLoader, seed: int, rank: int = 0) -> list[ConditioningClip]:
    """This process's share of the clips of the generation set, as `ConditioningClip`s.

    A clip has the same number, and with it the same seed and name, however many processes share
    the work; those that only fill the last batch up are left out.
    """
    clips = []
    sampler = tp.cast(ShardedSampler, loader.sampler)
    for batch_index, batch in enumerate(loader):
        first = batch_index * sampler.batch_size + rank * len(batch)
        for number, (wav, info) in enumerate(zip(batch.wavs, batch.infos), start=first):
            if number >= sampler.num_samples:
                break
            stem = Path(info.meta.path).stem
            clips.append(
                ConditioningClip(
                    name=f"{number:02d}_{stem}",
                    wav=wav[..., : info.n_frames],
                    description=info.to_condition_attributes().text.get("description"),
                    path=str(info.meta.path),
                    seek_time=info.seek_time,
                    seed=derive_seed(seed, "generate", number) % 2**31,
                )
            )
    return clips


def write_samples(
    model: MusicGen,
    clips: list[ConditioningClip],
    ways: ConditioningModes,
    folder: SampleWriter,
    *,
    epoch: int,
    batch_size: int,
    progress: Progress,
) -> dict[str, float]:
    """Generate from every clip in every way and write the results.

    A clip that is shorter than the excerpt that a style is heard from is left out there, and told.

    Returns:
        `real_time_factor`: Seconds of audio per second of computing, and `samples`.
    """
    chosen = ways.of(model)
    heard = _long_enough(model, clips) if any("style" in way for way in chosen) else []
    batches = []
    for way in chosen:
        of_way = heard if "style" in way else clips
        batches += [(way, of_way[i : i + batch_size]) for i in range(0, len(of_way), batch_size)]
    seconds, audio_seconds, count = 0.0, 0.0, 0
    for way, batch in progress(batches):
        starts = [_excerpt_start(model, clip) if "style" in way else None for clip in batch]
        began = time.perf_counter()
        wavs = _generate(model, way, batch, starts, ways)
        seconds += time.perf_counter() - began
        for clip, wav, start in zip(batch, wavs, starts):
            audio_seconds += wav.shape[-1] / model.sample_rate
            count += 1
            _write(folder, model, way, clip, wav, start, epoch)
    return {"samples": count, "real_time_factor": audio_seconds / max(seconds, 1e-9)}


def _long_enough(model: MusicGen, clips: list[ConditioningClip]) -> list[ConditioningClip]:
    """Clips of which a whole excerpt can be heard."""
    style = model.style_conditioner
    heard, short = [], []
    for clip in clips:
        fits = style.is_long_enough(clip.wav.shape[-1], model.sample_rate)
        (heard if fits else short).append(clip)
    if short:
        logger.warning(
            "No samples in the style of %s: shorter than an excerpt of %g s.",
            ", ".join(clip.name for clip in short),
            style.excerpt_length,
        )
    return heard


def _excerpt_start(model: MusicGen, clip: ConditioningClip) -> float:
    """Start of the style excerpt in the clip, in seconds."""
    duration = clip.wav.shape[-1] / model.sample_rate
    return select_excerpt_start(duration, model.style_conditioner.excerpt_length, clip.seed)


def _generate(
    model: MusicGen,
    way: str,
    batch: list[ConditioningClip],
    starts: list[float | None],
    ways: ConditioningModes,
) -> Tensor:
    """Audio `[B, C, T]` of one batch in one way."""
    rate = model.sample_rate
    texts = [clip.description if way != "style" else None for clip in batch]
    seeds = [clip.seed for clip in batch]
    if way == "unconditional":
        return model.generate_unconditional(len(batch), seed=seeds)
    if way == "text":
        return model.generate(texts, seed=seeds)
    if way == "continuation":
        length = min([int(ways.prompt_duration * rate), *(clip.wav.shape[-1] for clip in batch)])
        prompts = torch.stack([clip.wav[..., :length] for clip in batch])
        wavs = model.generate_continuation(prompts, rate, texts, seed=seeds)
        return wavs[..., length:] if ways.remove_prompts else wavs
    clips: list[Tensor | None] = [clip.wav for clip in batch]
    return model.generate_with_style(texts, clips, rate, seed=seeds, excerpt_start=starts)


def _write(
    folder: SampleWriter,
    model: MusicGen,
    way: str,
    clip: ConditioningClip,
    wav: Tensor,
    start: float | None,
    epoch: int,
) -> None:
    """Write one sample with its recipe and, where it was conditioned on a clip, that clip."""
    heard, excerpt_length, eval_q = None, None, None
    if start is not None:
        excerpt_length = model.style_conditioner.excerpt_length
        eval_q = model.style_conditioner.eval_q
        begin = round(start * model.sample_rate)
        heard = slice(begin, begin + int(excerpt_length * model.sample_rate))
    recipe = SampleMetadata(
        mode=way,
        description=None if way in ("style", "unconditional") else clip.description,
        style_path=clip.path if heard else None,
        style_seek_time=clip.seek_time if heard else None,
        excerpt_start=start,
        excerpt_length=excerpt_length,
        eval_q=eval_q,
        seed=clip.seed,
        epoch=epoch,
        parameters=dataclasses.asdict(model.generation_params),
    )
    folder.write(clip.name, wav, recipe, style=clip.wav if heard else None, heard=heard)
