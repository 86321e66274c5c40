"""Music from a sentence, from a few seconds of music, or from both.

The public face of the models: tensors and strings in, waveforms out. A sample depends only on its
own description, clip and seed, never on what else is in the batch.

Method: Rouard et al., 2024, https://arxiv.org/abs/2407.12563, and
Copet et al., 2023, https://arxiv.org/abs/2306.05284.
"""

import logging
import typing as tp

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..data.audio_utils import convert_audio
from ..data.conditions import ConditioningAttributes, wav_condition
from ..modules.conditioners import StyleConditioner, draw_excerpt
from ..modules.sampling import Sampling
from ..utils.device import resolve_device
from .encodec import CompressionModel
from .guidance import Guidance
from .inputs import GenerationParams, Seed, as_clips, broadcast, generators_for
from .lm import LMModel
from .loaders import load_musicgen
from .windows import generate_windows, groups_of

logger = logging.getLogger(__name__)

Progress = tp.Callable[[int, int], None]
DEFAULT_MAX_DURATION = 30.0  # seconds; what the released models were trained on


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
        name_or_path: str = "facebook/musicgen-style",
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> "MusicGen":
        """Load a model.

        Args:
            name_or_path: Hub id (`facebook/musicgen-style`, `facebook/musicgen-small`…), folder
                of an exported model, training checkpoint, `//sig/SIG` or `//bundled/NAME`.
            device: `cuda`, `mps` or `cpu`; `None` takes the best that is there.
            dtype: Of the language model; `None` is float16 on a GPU and float32 elsewhere.

        Raises:
            CheckpointError: There is no such model, or its files cannot be used.
        """
        where = resolve_device(device)
        if dtype is None:
            dtype = torch.float16 if where.type == "cuda" else torch.float32
        compression_model, lm, max_duration = load_musicgen(str(name_or_path), where, dtype)
        return MusicGen(str(name_or_path), compression_model, lm, max_duration)

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
        clips = as_clips(prompt, "prompt")
        texts, clips = broadcast(descriptions or [None], clips)
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
        texts, clips = broadcast(descriptions, as_clips(style_wavs, "style_wavs"))
        generators = generators_for(seed, len(texts))
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
        generators = seed if is_drawn else generators_for(tp.cast(Seed, seed), len(attributes))
        generators = tp.cast(list[torch.Generator], generators)
        length = int(self.generation_params.duration * self.frame_rate)
        groups = groups_of(self.lm.condition_provider, attributes)
        tokens: list[Tensor | None] = [None] * len(attributes)
        with tqdm(total=length * len(groups), disable=not progress, unit="frame") as bar:
            for number, (members, conditions) in enumerate(groups):

                def report(done: int, before: int = number * length) -> None:
                    bar.update(before + done - bar.n)
                    if self.progress_callback is not None:
                        self.progress_callback(before + done, length * len(groups))

                codes = generate_windows(
                    self.lm,
                    conditions,
                    [generators[i] for i in members],
                    self.generation_params,
                    prompt=None if prompt is None else prompt[members].to(self.device),
                    frame_rate=self.frame_rate,
                    max_duration=self.max_duration,
                    report=report,
                )
                for i, row in zip(members, codes):
                    tokens[i] = row
        codes = torch.stack(tp.cast(list[Tensor], tokens))
        wav = self.decode(codes)
        return (wav, codes) if return_tokens else wav
