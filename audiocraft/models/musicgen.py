"""Music from a sentence, from a few seconds of music, or from both.

The public face of the models: tensors and strings in, waveforms out. A sample depends only on its
own description, clip and seed, never on what else is in the batch.

Method: Rouard et al., 2024, https://arxiv.org/abs/2407.12563, and
Copet et al., 2023, https://arxiv.org/abs/2306.05284.
"""

import typing as tp
from pathlib import Path

import torch
from torch import Tensor

from ..data.audio_utils import convert_audio
from ..data.conditions import ConditioningAttributes, wav_condition
from ..modules.conditioners import StyleConditioner
from ..modules.frozen import evaluation_mode
from ..modules.sampling import Sampling
from ..utils.device import resolve_device, resolve_dtype
from .codecs.chunked_decoding import decode_chunked
from .encodec import CompressionModel
from .generation.guidance import Guidance
from .generation.inputs import (
    Clips,
    GenerationParams,
    Generators,
    Seed,
    broadcast,
    check_clips,
    check_descriptions,
    check_sample_rate,
    describe,
    excerpt_starts,
    make_generators,
)
from .generation.style_excerpt import extract_excerpt
from .generation.windows import ProgressCallback, frame_progress_bar, generate_samples
from .lm import LMModel
from .loaders import load_musicgen
from .lora import merge_adapter

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
        self.progress_callback: ProgressCallback | None = None
        self.set_generation_params(duration=min(30.0, self.max_duration))

    @staticmethod
    def get_pretrained(
        name_or_path: str = "facebook/musicgen-style",
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
    ) -> "MusicGen":
        """Load a model.

        Args:
            name_or_path: Hub id (`facebook/musicgen-style`, `facebook/musicgen-small`…), folder
                of an exported model, training checkpoint, `//sig/SIG` or `//bundled/NAME`.
            device: `cuda`, `mps` or `cpu`; `None` takes the best that is there.
            dtype: Of the language model, such as `torch.float16` or `"float16"`; `None` is that
                on a GPU and float32 elsewhere.

        Raises:
            CheckpointError: There is no such model, or its files cannot be used.
            ConfigError: There is no such device or precision.
        """
        where = resolve_device(device)
        if dtype is None:
            dtype = torch.float16 if where.type == "cuda" else torch.float32
        precision = resolve_dtype(dtype)
        compression_model, lm, max_duration = load_musicgen(str(name_or_path), where, precision)
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
        self.generation_params = GenerationParams.within(
            self.max_duration,
            duration=duration,
            use_sampling=use_sampling,
            extend_stride=extend_stride,
            sampling=Sampling(temperature=temperature, top_k=top_k, top_p=top_p),
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

    def load_adapter(self, path: str | Path) -> None:
        """Add the `adapter.safetensors` of a run with `lora.use=true` to the weights, in place.

        Raises:
            CheckpointError: The file is no adapter, or was made for another model.
        """
        merge_adapter(self.lm, path)

    def set_custom_progress_callback(
        self, progress_callback: ProgressCallback | None = None
    ) -> None:
        """Have `progress_callback(done, total)` called with counts of frames."""
        self.progress_callback = progress_callback

    @property
    def style_conditioner(self) -> StyleConditioner:
        """What listens to style clips.

        Raises:
            ValueError: The model was trained without one.
        """
        return self._style()[1]

    @property
    def style_name(self) -> str:
        """Attribute that carries style clips; errors as `style_conditioner`."""
        return self._style()[0]

    def _style(self) -> tuple[str, StyleConditioner]:
        """Name of the attribute that carries style clips, and what listens to them."""
        for name, conditioner in self.lm.condition_provider.conditioners.items():
            if isinstance(conditioner, StyleConditioner):
                return name, conditioner
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
        generators: Generators = None,
    ) -> tp.Any:
        """Music from text.

        Args:
            descriptions: One per sample; `None` is no description.
            progress: Show a progress bar.
            return_tokens: Also return the tokens.
            seed: Of the first sample, the others counting up from it; or one per sample.
            generators: The dice themselves, one per sample, instead of seeds.

        Returns:
            Audio `[B, C, T]`; with `return_tokens` a pair with the tokens `[B, K, F]`.

        Raises:
            ValueError: Something given cannot be used; the message names it.
        """
        attributes = describe(check_descriptions(descriptions))
        rngs = make_generators(seed, generators, len(attributes))
        return self._generate(attributes, None, rngs, progress, return_tokens)

    def generate_unconditional(
        self,
        num_samples: int,
        progress: bool = False,
        return_tokens: bool = False,
        *,
        seed: Seed = None,
        generators: Generators = None,
    ) -> tp.Any:
        """Music from nothing; see `generate` for arguments and result.

        Raises:
            ValueError: `num_samples` is no positive number, or does not go with the seeds.
        """
        if not isinstance(num_samples, int) or num_samples < 1:
            raise ValueError(f"num_samples must be a number of at least 1 but is {num_samples!r}.")
        rngs = make_generators(seed, generators, num_samples)
        return self._generate(describe([None] * num_samples), None, rngs, progress, return_tokens)

    def generate_continuation(
        self,
        prompt: Tensor,
        prompt_sample_rate: int,
        descriptions: list[str | None] | None = None,
        progress: bool = False,
        return_tokens: bool = False,
        *,
        seed: Seed = None,
        generators: Generators = None,
    ) -> tp.Any:
        """Music that goes on from a beginning, which is part of the result.

        Args:
            prompt: Beginning, `[B, C, T]` or `[C, T]`.
            prompt_sample_rate: Of `prompt`.
            descriptions: One per prompt, or one for all; `None` is no description.
            progress, return_tokens, seed, generators: As in `generate`.

        Raises:
            ValueError: The prompt is not audio, or lasts as long as what is to be generated.
        """
        if not isinstance(prompt, Tensor):
            raise ValueError(
                f"prompt must be a tensor [B, C, T] or [C, T] but is a {type(prompt).__name__}."
            )
        check_sample_rate(prompt_sample_rate, "prompt_sample_rate")
        texts = [None] if descriptions is None else check_descriptions(descriptions)
        texts, clips = broadcast(texts, check_clips(prompt, "prompt"))
        rngs = make_generators(seed, generators, len(texts))
        wavs = torch.stack([self._convert(clip, prompt_sample_rate) for clip in clips])
        with torch.inference_mode(), evaluation_mode(self.compression_model):
            codes, scale = self.compression_model.encode(wavs.to(self.codec_device))
        if scale is not None:
            raise ValueError("The tokenizer rescales its input, which cannot be continued.")
        return self._generate(describe(texts), codes, rngs, progress, return_tokens)

    def generate_with_style(
        self,
        descriptions: list[str | None],
        style_wavs: Clips,
        style_sample_rate: int,
        progress: bool = False,
        return_tokens: bool = False,
        *,
        seed: Seed = None,
        generators: Generators = None,
        excerpt_start: float | tp.Sequence[float | None] | None = None,
    ) -> tp.Any:
        """Music in the style of a clip, with or without text.

        Args:
            descriptions: One per sample, or one for all clips; `None` is no description.
            style_wavs: Clips `[B, C, T]`, `[C, T]`, or a list of `[C, T]` of any lengths and
                `None`; one per description, or one for all.
            style_sample_rate: Of the clips.
            progress, return_tokens, seed, generators: As in `generate`.
            excerpt_start: Second of the clip where the excerpt starts, for all or one per
                sample; `None` selects it by the sample's seed, as the command line does.

        Raises:
            ValueError: The model hears no style, or a clip is shorter than the excerpt.
        """
        name, style = self._style()
        check_sample_rate(style_sample_rate, "style_sample_rate")
        texts, clips = broadcast(
            check_descriptions(descriptions), check_clips(style_wavs, "style_wavs")
        )
        rngs = make_generators(seed, generators, len(texts))
        starts = excerpt_starts(excerpt_start, len(texts))
        attributes = describe(texts)
        for sample, clip, start, rng in zip(attributes, clips, starts, rngs):
            if clip is None:
                continue
            excerpt = extract_excerpt(
                clip,
                style_sample_rate,
                style.excerpt_length,
                start,
                rng,
                self.sample_rate,
                self.audio_channels,
            )
            sample.wav[name] = wav_condition(excerpt.wav, self.sample_rate, start=excerpt.start)
        return self._generate(attributes, None, rngs, progress, return_tokens)

    def generate_with_chroma(
        self,
        descriptions: list[str | None],
        melody_wavs: Clips,
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
        """Turn tokens `[B, K, F]` into audio `[B, C, T]`, in constant memory beside the two."""
        with torch.inference_mode(), evaluation_mode(self.compression_model):
            return decode_chunked(self.compression_model, tokens.to(self.codec_device))

    @property
    def codec_device(self) -> torch.device:
        """Where the tokenizer lives."""
        tensors = [*self.compression_model.parameters(), *self.compression_model.buffers()]
        return tensors[0].device

    def _convert(self, wav: Tensor, sample_rate: int) -> Tensor:
        """Bring a clip `[C, T]` to the model's sample rate and channels."""
        return convert_audio(wav.float(), sample_rate, self.sample_rate, self.audio_channels)

    @torch.inference_mode()
    def _generate(
        self,
        attributes: list[ConditioningAttributes],
        prompt: Tensor | None,
        generators: tp.Sequence[torch.Generator],
        progress: bool,
        return_tokens: bool,
    ) -> tp.Any:
        progress_bar = frame_progress_bar(progress, self.progress_callback)
        with evaluation_mode(self.lm), progress_bar as report:
            codes = generate_samples(
                self.lm,
                attributes,
                generators,
                self.generation_params,
                prompt=None if prompt is None else prompt.to(self.device),
                frame_rate=self.frame_rate,
                max_duration=self.max_duration,
                report=report,
            )
        wav = self.decode(codes)
        return (wav, codes) if return_tokens else wav
