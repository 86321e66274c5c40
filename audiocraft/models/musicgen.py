"""MusicGen: the public API of music generation from text, style clips and audio prompts.

Takes strings and tensors and returns waveforms. A sample depends only on its own description, clip
and seed, not on the rest of the batch.

Method: Rouard et al., 2024, https://arxiv.org/abs/2407.12563, and
Copet et al., 2023, https://arxiv.org/abs/2306.05284.
"""

import typing as tp
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.audio_utils import convert_audio
from ..data.conditions import ConditioningAttributes, wav_condition
from ..modules.conditioners import StyleConditioner
from ..modules.frozen import evaluation_mode
from ..modules.sampling import Sampling
from ..utils.device import resolve_device, resolve_dtype
from ..utils.numbers import is_integer
from .codecs.chunked_decoding import decode_chunked
from .encodec import CompressionModel
from .generation.guidance import Guidance
from .generation.inputs import (
    GenerationParams,
    Generators,
    Seed,
    Texts,
    Waveforms,
    as_sample_rate,
    broadcast,
    check_clips,
    check_descriptions,
    excerpt_starts,
    make_generators,
    text_attributes,
)
from .generation.style_excerpt import extract_excerpt
from .generation.windows import ProgressCallback, frame_progress_bar, generate_samples
from .lm import LMModel
from .loaders import full_name, load_musicgen
from .lora import merge_adapter

DEFAULT_MAX_DURATION = 30.0  # seconds; training segments of the released models


class MusicGen:
    """Language model with the tokenizer that it was trained on.

    Args:
        name: Name of the model, for messages.
        compression_model: Tokenizer.
        lm: Language model over its tokens.
        max_duration: Length of a generation window in seconds, usually that of the training
            segments; `None` is 30.
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
        name: str = "facebook/musicgen-style",
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
    ) -> "MusicGen":
        """Load a model.

        Args:
            name: Hub id (`facebook/musicgen-style`, `facebook/musicgen-small`, …), folder of an
                exported model, training checkpoint, `//sig/SIG` or `//bundled/NAME`. Short names
                `small`, `medium`, `large`, `melody` and `style` are hub ids, with a warning;
                `debug` is a tiny untrained model.
            device: `cuda`, `mps` or `cpu`; `None` selects the best available one.
            dtype: Dtype of the language model, such as `torch.float16` or `"float16"`; `None` is
                float16 on a CUDA GPU and float32 elsewhere.

        Raises:
            CheckpointError: There is no such model, or its files cannot be used.
            ConfigError: There is no such device or dtype.
        """
        device = resolve_device(device)
        if dtype is None:
            dtype = torch.float16 if device.type == "cuda" else torch.float32
        name = full_name(str(name))
        loaded = load_musicgen(name, device, resolve_dtype(dtype))
        return MusicGen(name, *loaded)

    @property
    def sample_rate(self) -> int:
        """Samples per second of the generated audio."""
        return self.compression_model.sample_rate

    @property
    def frame_rate(self) -> float:
        """Codec frames per second of audio."""
        return self.compression_model.frame_rate

    @property
    def audio_channels(self) -> int:
        """Channels of the generated audio."""
        return self.compression_model.channels

    @property
    def device(self) -> torch.device:
        """Device of the language model."""
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
        """Set the parameters of generation.

        Args:
            use_sampling: Sample tokens; otherwise take the most probable one (greedy decoding).
            top_k: Sample among the k most probable tokens; 0: all.
            top_p: Sample among the most probable tokens with this total probability; 0: all.
            temperature: Softmax temperature.
            duration: Seconds of audio to generate, rounded to the nearest codec frame.
            cfg_coef: Coefficient α of classifier-free guidance; 1: no guidance.
            cfg_coef_beta: Coefficient β of double guidance, which weights the *text* relative to
                the style; useful from 1 to 9. `None`: single guidance.
            two_step_cfg: Run the branches of guidance one by one: less memory, more time.
            extend_stride: Beyond `max_duration`, seconds from the start of one window to the start
                of the next; `None` is `0.6 * max_duration`.

        Raises:
            ValueError: A value is out of range.
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
        """Set the parameters of the style conditioner.

        Args:
            eval_q: Codebooks of the bottleneck, from 1 (loosely similar) to all (closely).
            excerpt_length: Length of the style excerpt, in seconds.
            ds_factor: Downsampling factor of the features; `None` does not change it.
            encodec_n_q: Codebooks of the codec, if EnCodec is the feature extractor.

        Raises:
            ValueError: The model has no style conditioner, or a value is out of range.
        """
        self.style_conditioner.set_params(
            eval_q=eval_q,
            excerpt_length=excerpt_length,
            ds_factor=ds_factor,
            encodec_n_q=encodec_n_q,
        )

    def load_adapter(self, path: str | Path) -> None:
        """Merge the `adapter.safetensors` of a run with `lora.use=true` into the weights, in place.

        Raises:
            CheckpointError: The file is not an adapter, or is one of another model.
        """
        merge_adapter(self.lm, path)

    def set_custom_progress_callback(
        self, progress_callback: ProgressCallback | None = None
    ) -> None:
        """Set a function that is called with the number of frames done and the total."""
        self.progress_callback = progress_callback

    @property
    def style_conditioner(self) -> StyleConditioner:
        """Conditioner that encodes style clips.

        Raises:
            ValueError: The model has none.
        """
        return self._style()[1]

    @property
    def style_name(self) -> str:
        """Name of the style condition; errors as for `style_conditioner`."""
        return self._style()[0]

    def _style(self) -> tuple[str, StyleConditioner]:
        """Return the name of the style condition and its conditioner."""
        for name, conditioner in self.lm.condition_provider.conditioners.items():
            if isinstance(conditioner, StyleConditioner):
                return name, conditioner
        raise ValueError(
            f"{self.name} has no style conditioner. Load facebook/musicgen-style or a model "
            "trained with conditioner=style2music."
        )

    def generate(
        self,
        descriptions: Texts,
        progress: bool = False,
        return_tokens: bool = False,
        *,
        seed: Seed = None,
        generators: Generators = None,
    ) -> tp.Any:
        """Generate music from text.

        Args:
            descriptions: One per sample; `None` is no description.
            progress: Show a progress bar.
            return_tokens: Also return the tokens.
            seed: Seed of the first sample, incremented for each further one, or one per sample.
            generators: Random generators, one per sample, instead of seeds.

        Returns:
            Audio `[B, C, T]`; with `return_tokens` a pair with the tokens `[B, K, F]`.

        Raises:
            ValueError: An argument cannot be used; the message names it.
        """
        attributes = text_attributes(check_descriptions(descriptions))
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
        """Generate music without conditions; arguments and result as for `generate`.

        Raises:
            ValueError: `num_samples` is not a positive integer, or seeds do not match it.
        """
        if not is_integer(num_samples) or num_samples < 1:
            raise ValueError(f"num_samples={num_samples!r} must be an integer of at least 1.")
        rngs = make_generators(seed, generators, num_samples)
        return self._generate(
            text_attributes([None] * num_samples), None, rngs, progress, return_tokens
        )

    def generate_continuation(
        self,
        prompt: Tensor,
        prompt_sample_rate: int,
        descriptions: Texts | None = None,
        progress: bool = False,
        return_tokens: bool = False,
        *,
        seed: Seed = None,
        generators: Generators = None,
    ) -> tp.Any:
        """Continue audio prompts; the result includes them.

        Args:
            prompt: Audio, `[B, C, T]` or `[C, T]`.
            prompt_sample_rate: Sample rate of `prompt`, in Hz.
            descriptions: One per prompt, or one for all; `None` is no description.
            progress, return_tokens, seed, generators: As for `generate`.

        Raises:
            ValueError: The prompt is not audio, or is as long as `duration`.
        """
        if not isinstance(prompt, Tensor | np.ndarray):
            raise ValueError(
                f"prompt must be a tensor [B, C, T] or [C, T] but is a {type(prompt).__name__}."
            )
        rate = as_sample_rate(prompt_sample_rate, "prompt_sample_rate")
        texts = [None] if descriptions is None else check_descriptions(descriptions)
        texts, clips = broadcast(texts, check_clips(prompt, "prompt"))
        rngs = make_generators(seed, generators, len(texts))
        wavs = torch.stack([self._convert(clip, rate) for clip in clips])
        with torch.inference_mode(), evaluation_mode(self.compression_model):
            codes, scale = self.compression_model.encode(wavs.to(self.codec_device))
        if scale is not None:
            raise ValueError(
                "The tokenizer renormalizes its input (renormalize=true), which continuation does "
                "not support. Use a model with another tokenizer."
            )
        return self._generate(text_attributes(texts), codes, rngs, progress, return_tokens)

    def generate_with_style(
        self,
        descriptions: Texts,
        style_wavs: Waveforms | None,
        style_sample_rate: int,
        progress: bool = False,
        return_tokens: bool = False,
        *,
        seed: Seed = None,
        generators: Generators = None,
        excerpt_start: float | tp.Sequence[float | None] | None = None,
    ) -> tp.Any:
        """Generate music in the style of clips, with or without text.

        Args:
            descriptions: One per sample, or one for all clips; `None` is no description.
            style_wavs: Clips `[B, C, T]`, `[C, T]`, or a list of `[C, T]` of any lengths and
                `None` (no clip); one per description, or one for all.
            style_sample_rate: Sample rate of the clips, in Hz.
            progress, return_tokens, seed, generators: As for `generate`.
            excerpt_start: Second of the clip where the excerpt starts, for all or one per
                sample; `None` selects it by the sample's seed, as the command line does.

        Raises:
            ValueError: The model has no style conditioner, or a clip is shorter than the excerpt.
        """
        name, style = self._style()
        clip_rate = as_sample_rate(style_sample_rate, "style_sample_rate")
        texts, clips = broadcast(
            check_descriptions(descriptions), check_clips(style_wavs, "style_wavs")
        )
        rngs = make_generators(seed, generators, len(texts))
        starts = excerpt_starts(excerpt_start, len(texts))
        attributes = text_attributes(texts)
        for sample, clip, start, rng in zip(attributes, clips, starts, rngs):
            if clip is None:
                continue
            excerpt = extract_excerpt(
                clip,
                clip_rate,
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
        descriptions: Texts,
        melody_wavs: Waveforms | None,
        melody_sample_rate: int,
        progress: bool = False,
        return_tokens: bool = False,
        *,
        seed: Seed = None,
        generators: Generators = None,
        excerpt_start: float | tp.Sequence[float | None] | None = None,
    ) -> tp.Any:
        """Call `generate_with_style`; scripts for the original use this name."""
        return self.generate_with_style(
            descriptions,
            melody_wavs,
            melody_sample_rate,
            progress,
            return_tokens,
            seed=seed,
            generators=generators,
            excerpt_start=excerpt_start,
        )

    def decode(self, tokens: Tensor) -> Tensor:
        """Decode tokens `[B, K, F]` to audio `[B, C, T]`, in chunks if they are long.

        Raises:
            ValueError: The tokens have other dimensions, or one is out of range.
        """
        if not isinstance(tokens, Tensor):
            raise ValueError(f"tokens must be a tensor [B, K, F] but is a {type(tokens).__name__}.")
        with torch.inference_mode(), evaluation_mode(self.compression_model):
            return decode_chunked(self.compression_model, tokens.to(self.codec_device))

    @property
    def codec_device(self) -> torch.device:
        """Device of the tokenizer."""
        tensors = [*self.compression_model.parameters(), *self.compression_model.buffers()]
        return tensors[0].device

    def _convert(self, wav: Tensor, sample_rate: int) -> Tensor:
        """Convert a clip `[C, T]` to the model's sample rate and channels."""
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
