"""Music from a sentence, from a few seconds of music, or from both.

The public face of the models: tensors and strings in, waveforms out. A sample depends only on its
own description, clip and seed, never on what else is in the batch.

Method: Rouard et al., 2024, https://arxiv.org/abs/2407.12563, and
Copet et al., 2023, https://arxiv.org/abs/2306.05284.
"""

import logging
import typing as tp
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..data.audio_utils import convert_audio
from ..data.conditions import ConditioningAttributes, wav_condition
from ..modules.conditioners import Condition, StyleConditioner, draw_excerpt
from ..modules.sampling import Sampling
from ..utils.device import resolve_device
from .encodec import CompressionModel
from .generation import generate_tokens
from .guidance import Guidance
from .lm import LMModel
from .loaders import load_musicgen

logger = logging.getLogger(__name__)

Progress = tp.Callable[[int, int], None]
Seed = int | tp.Sequence[int] | None
DEFAULT_MAX_DURATION = 30.0  # seconds; what the released models were trained on


@dataclass(frozen=True, kw_only=True)
class GenerationParams:
    """How a model generates. Durations and strides are in seconds."""

    duration: float = 30.0
    extend_stride: float = 18.0  # what each window adds beyond the model's longest duration
    sampling: Sampling = field(default_factory=lambda: Sampling(top_k=250))
    guidance: Guidance = field(default_factory=Guidance)

    def __post_init__(self):
        if not self.duration > 0:
            raise ValueError(f"duration must be more than 0 seconds but is {self.duration}.")
        if not self.extend_stride > 0:
            raise ValueError(f"extend_stride must be more than 0 but is {self.extend_stride}.")


class MusicGen:
    """A language model of music with the tokenizer that it speaks.

    Args:
        name: How the model is called in logs.
        compression_model: Turns audio into tokens and back; frozen.
        lm: Continues tokens, given conditions.
        max_duration: Longest window in seconds that the model has learnt, usually the length
            of its training segments.
    """

    def __init__(
        self,
        name: str,
        compression_model: CompressionModel,
        lm: LMModel,
        max_duration: float | None = None,
    ):
        self.name = name
        self.compression_model = compression_model.eval()
        self.lm = lm.eval()
        self.max_duration = float(max_duration or DEFAULT_MAX_DURATION)
        self.progress_callback: Progress | None = None
        self.set_generation_params(duration=min(30.0, self.max_duration))

    @staticmethod
    def get_pretrained(
        name: str = "facebook/musicgen-style",
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> "MusicGen":
        """Load a model.

        Args:
            name: Hub id (`facebook/musicgen-style`, `facebook/musicgen-small`…), folder of an
                exported model, training checkpoint, `//sig/SIG` or `//bundled/NAME`.
            device: `cuda`, `mps` or `cpu`; `None` takes the best that is there.
            dtype: Of the language model; `None` is float16 on a GPU and float32 elsewhere.

        Raises:
            CheckpointError: There is no such model, or its files cannot be used.
        """
        where = resolve_device(device)
        if dtype is None:
            dtype = torch.float16 if where.type == "cuda" else torch.float32
        compression_model, lm, max_duration = load_musicgen(name, where, dtype)
        return MusicGen(name, compression_model, lm, max_duration)

    @property
    def sample_rate(self) -> int:
        """Samples per second of the generated audio."""
        return self.compression_model.sample_rate

    @property
    def frame_rate(self) -> float:
        """Steps of the language model per second of audio."""
        return self.compression_model.frame_rate

    @property
    def audio_channels(self) -> int:
        """Channels of the generated audio."""
        return self.compression_model.channels

    @property
    def device(self) -> torch.device:
        """Where the language model lives."""
        return next(self.lm.parameters()).device

    def set_generation_params(
        self,
        use_sampling: bool = True,
        top_k: int = 250,
        top_p: float = 0.0,
        temperature: float = 1.0,
        duration: float = 30.0,
        cfg_coef: float = 3.0,
        cfg_coef_beta: float | None = None,
        two_step_cfg: bool = False,
        extend_stride: float | None = None,
    ) -> None:
        """Choose how to generate.

        Args:
            use_sampling: Draw tokens at random; otherwise always take the likeliest.
            top_k: Draw among the k likeliest tokens; 0 is off.
            top_p: Draw among the likeliest tokens that sum to this probability; 0 is off.
            temperature: More than 1 is more daring, less is more careful.
            duration: Seconds of audio to make.
            cfg_coef: Guidance: how much further than without any condition. 1 is off.
            cfg_coef_beta: Second guidance, for text with style: how much the *text* is pushed
                beyond the style. Useful between 1 and 9; `None` is off.
            two_step_cfg: Two passes instead of one twice as wide: less memory, more time.
            extend_stride: Beyond `max_duration`, seconds that each further window adds;
                `None` is six tenths of `max_duration`.

        Raises:
            ValueError: A value is out of its range; the message names it.
        """
        stride = 0.6 * self.max_duration if extend_stride is None else extend_stride
        if stride >= self.max_duration:
            raise ValueError(
                f"extend_stride is {stride} s but a window lasts {self.max_duration} s: "
                "give less, so that windows overlap."
            )
        if temperature < 0:
            raise ValueError(f"temperature must be at least 0 but is {temperature}.")
        greedy = Sampling(temperature=0.0, top_k=0)
        sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
        self.generation_params = GenerationParams(
            duration=duration,
            extend_stride=stride,
            sampling=sampling if use_sampling else greedy,
            guidance=Guidance(
                cfg_coef=cfg_coef, cfg_coef_beta=cfg_coef_beta, two_step=two_step_cfg
            ),
        )

    def set_style_conditioner_params(
        self,
        eval_q: int = 3,
        excerpt_length: float = 3.0,
        ds_factor: int | None = None,
        encodec_n_q: int | None = None,
    ) -> None:
        """Choose how closely the style clip is listened to.

        Args:
            eval_q: Codebooks of the bottleneck that pass, from 1 (loose) to all (close).
            excerpt_length: Seconds of the clip that are heard.
            ds_factor: Every how many feature frames one is kept; `None` leaves it.
            encodec_n_q: Codebooks that are heard, where the listener is EnCodec.

        Raises:
            ValueError: The model has no style conditioner, or a value is out of its range.
        """
        self.style_conditioner.set_params(
            eval_q=eval_q,
            excerpt_length=excerpt_length,
            ds_factor=ds_factor,
            encodec_n_q=encodec_n_q,
        )

    def set_custom_progress_callback(self, progress_callback: Progress | None = None) -> None:
        """Have `progress_callback(done, total)` called with counts of frames."""
        self.progress_callback = progress_callback

    @property
    def style_conditioner(self) -> StyleConditioner:
        """What listens to style clips.

        Raises:
            ValueError: The model was trained without one.
        """
        for conditioner in self.lm.condition_provider.conditioners.values():
            if isinstance(conditioner, StyleConditioner):
                return conditioner
        raise ValueError(
            f"{self.name} has no style conditioner. Load facebook/musicgen-style or a model "
            "trained with conditioner=style2music."
        )

    def generate(
        self,
        descriptions: list[str | None],
        progress: bool = False,
        return_tokens: bool = False,
        *,
        seed: Seed = None,
    ) -> tp.Any:
        """Music from text.

        Args:
            descriptions: One per sample; `None` is no description.
            progress: Show a progress bar.
            return_tokens: Also return the tokens.
            seed: Of the first sample, the others counting up from it; or one per sample.

        Returns:
            Audio `[B, C, T]`; with `return_tokens` a pair with the tokens `[B, K, F]`.
        """
        attributes = self._describe(descriptions)
        return self._generate(attributes, None, seed, progress, return_tokens)

    def generate_unconditional(
        self,
        num_samples: int,
        progress: bool = False,
        return_tokens: bool = False,
        *,
        seed: Seed = None,
    ) -> tp.Any:
        """Music from nothing; see `generate` for arguments and result."""
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1 but is {num_samples}.")
        attributes = self._describe([None] * num_samples)
        return self._generate(attributes, None, seed, progress, return_tokens)

    def generate_continuation(
        self,
        prompt: Tensor,
        prompt_sample_rate: int,
        descriptions: list[str | None] | None = None,
        progress: bool = False,
        return_tokens: bool = False,
        *,
        seed: Seed = None,
    ) -> tp.Any:
        """Music that goes on from a beginning, which is part of the result.

        Args:
            prompt: Beginning, `[B, C, T]` or `[C, T]`.
            prompt_sample_rate: Of `prompt`.
            descriptions: One per prompt, or one for all; `None` is no description.
            progress, return_tokens, seed: As in `generate`.

        Raises:
            ValueError: The prompt is not audio, or lasts as long as what is to be generated.
        """
        clips = _as_clips(prompt, "prompt")
        texts, clips = _broadcast(descriptions or [None], clips)
        wavs = [self._convert(clip, prompt_sample_rate) for clip in clips]
        with torch.inference_mode():
            codes, scale = self.compression_model.encode(torch.stack(wavs).to(self.codec_device))
        if scale is not None:
            raise ValueError("The tokenizer rescales its input, which cannot be continued.")
        attributes = self._describe(texts)
        return self._generate(attributes, codes, seed, progress, return_tokens)

    def generate_with_style(
        self,
        descriptions: list[str | None],
        style_wavs: Tensor | list[Tensor | None],
        style_sample_rate: int,
        progress: bool = False,
        return_tokens: bool = False,
        *,
        seed: Seed = None,
        excerpt_start: float | tp.Sequence[float | None] | None = None,
    ) -> tp.Any:
        """Music in the style of a clip, with or without text.

        Args:
            descriptions: One per sample, or one for all clips; `None` is no description.
            style_wavs: Clips `[B, C, T]`, `[C, T]`, or a list of `[C, T]` of any lengths and
                `None`; one per description, or one for all.
            style_sample_rate: Of the clips.
            progress, return_tokens, seed: As in `generate`.
            excerpt_start: Second of the clip where the excerpt starts, for all or one per
                sample; `None` draws it from the sample's seed.

        Raises:
            ValueError: The model hears no style, or a clip is shorter than the excerpt.
        """
        style = self.style_conditioner
        texts, clips = _broadcast(descriptions, _as_clips(style_wavs, "style_wavs"))
        generators = _generators(seed, len(texts))
        starts = excerpt_start
        if starts is None or isinstance(starts, int | float):
            starts = [starts] * len(texts)
        attributes = self._describe(texts)
        for i, clip in enumerate(clips):
            if clip is None:
                continue
            wav = self._convert(clip, style_sample_rate)
            start = starts[i]
            if start is None:
                length = int(style.excerpt_length * self.sample_rate)
                excerpt = draw_excerpt(wav.shape[-1], length, generators[i])
                start = excerpt.start / self.sample_rate
            attributes[i].wav["self_wav"] = wav_condition(wav, self.sample_rate, start=start)
        return self._generate(attributes, None, generators, progress, return_tokens)

    def generate_with_chroma(
        self,
        descriptions: list[str | None],
        melody_wavs: Tensor | list[Tensor | None],
        melody_sample_rate: int,
        progress: bool = False,
        return_tokens: bool = False,
        **kwargs: tp.Any,
    ) -> tp.Any:
        """`generate_with_style` under the name that scripts for the original use."""
        return self.generate_with_style(
            descriptions, melody_wavs, melody_sample_rate, progress, return_tokens, **kwargs
        )

    def decode(self, tokens: Tensor) -> Tensor:
        """Turn tokens `[B, K, F]` into audio `[B, C, T]`."""
        with torch.inference_mode():
            return self.compression_model.decode(tokens.to(self.codec_device), None)

    @property
    def codec_device(self) -> torch.device:
        """Where the tokenizer lives."""
        tensors = [*self.compression_model.parameters(), *self.compression_model.buffers()]
        return tensors[0].device

    def _describe(self, descriptions: tp.Sequence[str | None]) -> list[ConditioningAttributes]:
        if isinstance(descriptions, str):
            raise ValueError("descriptions must be a list: put the sentence in brackets.")
        if len(descriptions) == 0:
            raise ValueError("descriptions is empty: give one text (or None) per sample.")
        return [ConditioningAttributes(text={"description": text}) for text in descriptions]

    def _convert(self, wav: Tensor, sample_rate: int) -> Tensor:
        """Bring a clip `[C, T]` to the model's sample rate and channels."""
        return convert_audio(wav.float(), sample_rate, self.sample_rate, self.audio_channels)

    @torch.inference_mode()
    def _generate(
        self,
        attributes: list[ConditioningAttributes],
        prompt: Tensor | None,
        seed: Seed | list[torch.Generator],
        progress: bool,
        return_tokens: bool,
    ) -> tp.Any:
        is_drawn = isinstance(seed, list) and isinstance(seed[0], torch.Generator)
        generators = seed if is_drawn else _generators(tp.cast(Seed, seed), len(attributes))
        generators = tp.cast(list[torch.Generator], generators)
        length = int(self.generation_params.duration * self.frame_rate)
        groups = self._groups(attributes)
        tokens: list[Tensor | None] = [None] * len(attributes)
        with tqdm(total=length * len(groups), disable=not progress, unit="frame") as bar:
            for number, (members, conditions) in enumerate(groups):

                def report(done: int, before: int = number * length) -> None:
                    bar.update(before + done - bar.n)
                    if self.progress_callback is not None:
                        self.progress_callback(before + done, length * len(groups))

                codes = self._windows(
                    conditions,
                    None if prompt is None else prompt[members],
                    [generators[i] for i in members],
                    length,
                    report,
                )
                for i, row in zip(members, codes):
                    tokens[i] = row
        codes = torch.stack(tp.cast(list[Tensor], tokens))
        wav = self.decode(codes)
        return (wav, codes) if return_tokens else wav

    def _groups(
        self, attributes: list[ConditioningAttributes]
    ) -> list[tuple[list[int], dict[str, Condition]]]:
        """Conditions, computed once for each sample, joined where they have the same form.

        Released models attend to padding, so a text that is padded to the length of its
        neighbour's sounds different. Only samples whose conditions are equally long share a batch.
        """
        provider = self.lm.condition_provider
        groups: dict[tuple, list[tuple[int, dict[str, Condition]]]] = {}
        for i, sample in enumerate(attributes):
            conditions = provider(provider.prepare([sample], None))
            form = tuple((c.embed.shape[1], bool(c.mask.any())) for c in conditions.values())
            groups.setdefault(form, []).append((i, conditions))
        return [([i for i, _ in group], _join([c for _, c in group])) for group in groups.values()]

    def _windows(
        self,
        conditions: dict[str, Condition],
        prompt: Tensor | None,
        generators: list[torch.Generator],
        total: int,
        report: tp.Callable[[int], None],
    ) -> Tensor:
        """Generate `total` frames, sliding a window where they are more than one holds.

        Every window continues the end of the one before, and hears the same conditions.
        """
        params = self.generation_params
        longest = int(self.max_duration * self.frame_rate)
        stride = max(1, int(params.extend_stride * self.frame_rate))
        if prompt is not None and prompt.shape[-1] >= min(total, longest):
            raise ValueError(
                f"The prompt lasts {prompt.shape[-1] / self.frame_rate:.2f} s and leaves nothing "
                f"to generate in {min(total, longest) / self.frame_rate:.2f} s. "
                "Give a shorter prompt or a longer duration."
            )
        if prompt is not None:
            prompt = prompt.to(self.device)
        pieces: list[Tensor] = []
        offset = 0
        while True:
            window = min(total - offset, longest)
            tokens = generate_tokens(
                self.lm,
                conditions,
                num_samples=len(generators),
                max_gen_len=window,
                prompt=prompt,
                sampling=params.sampling,
                guidance=params.guidance,
                generators=generators,
                on_step=lambda done, _, start=offset: report(min(start + done, total)),
            )
            known = prompt.shape[-1] if prompt is not None and pieces else 0
            pieces.append(tokens[..., known:])
            if offset + window >= total:
                return torch.cat(pieces, dim=-1)
            prompt = tokens[..., stride:]
            offset += stride


def _join(conditions: list[dict[str, Condition]]) -> dict[str, Condition]:
    """Conditions of single samples as those of a batch."""
    return {
        name: Condition(
            torch.cat([sample[name].embed for sample in conditions]),
            torch.cat([sample[name].mask for sample in conditions]),
        )
        for name in conditions[0]
    }


def _generators(seed: Seed, num_samples: int) -> list[torch.Generator]:
    """One generator per sample, so that a sample does not depend on its neighbours."""
    if seed is None:
        seeds: tp.Sequence[int] = torch.randint(2**62, (num_samples,)).tolist()
    elif isinstance(seed, int):
        seeds = range(seed, seed + num_samples)
    else:
        seeds = seed
    if len(seeds) != num_samples:
        raise ValueError(f"{len(seeds)} seeds were given for {num_samples} samples.")
    return [torch.Generator().manual_seed(int(value)) for value in seeds]


def _as_clips(wavs: Tensor | tp.Sequence[Tensor | None], name: str) -> list[Tensor | None]:
    """Clips `[C, T]` of any lengths, checked."""
    if isinstance(wavs, Tensor):
        if wavs.dim() not in (2, 3):
            raise ValueError(f"{name} must be [B, C, T] or [C, T] but is {list(wavs.shape)}.")
        wavs = list(wavs[None] if wavs.dim() == 2 else wavs)
    for clip in wavs:
        if clip is None:
            continue
        if clip.dim() != 2 or clip.shape[-1] == 0:
            raise ValueError(f"A clip in {name} must be [C, T] but is {list(clip.shape)}.")
        if clip.shape[0] > 2:
            raise ValueError(
                f"A clip in {name} has {clip.shape[0]} channels. Give mono or stereo, [C, T]: "
                "mix it down, or transpose it if time comes first."
            )
        if not torch.isfinite(clip).all():
            raise ValueError(f"A clip in {name} holds NaN or infinite samples.")
    return list(wavs)


def _broadcast(texts: tp.Sequence, clips: list) -> tuple[list, list]:
    """One text goes with all clips, one clip with all texts."""
    if len(texts) != len(clips) and 1 not in (len(texts), len(clips)):
        raise ValueError(
            f"{len(texts)} descriptions do not go with {len(clips)} clips: "
            "give as many, or a single one of either."
        )
    count = max(len(texts), len(clips))
    return list(texts) * (count // len(texts)), list(clips) * (count // len(clips))
