"""The style conditioner: a few seconds of audio become a short, coarse prefix.

A frozen network listens to an excerpt; a small transformer, a batch norm and a residual quantizer
with few codebooks let through how the excerpt sounds but not what it plays, and one frame in
`ds_factor` is kept. The fewer codebooks pass, the freer the music.

Method: Rouard et al., 2024, https://arxiv.org/abs/2407.12563.
"""

import logging
import typing as tp
from dataclasses import dataclass

import torch
from torch import Tensor

from ...data.audio_utils import resample
from ...data.conditions import WavCondition
from ...quantization.vq import ResidualVectorQuantizer, draw_num_codebooks
from ...utils.numbers import is_integer, is_number
from ..batch_norm import SharedBatchNorm1d
from ..transformer import StreamingTransformer
from .base import BatchGenerators, Condition, Rng, WavConditioner, generator_for_all, length_to_mask
from .excerpt import covered_frames, draw_excerpts, draw_length
from .features import EncodecFeatures, FeatureExtractor


@dataclass(frozen=True)
class StyleScale:
    """Sizes of the style transformer; the feed-forward layers are four times as wide."""

    d_model: int
    num_heads: int = 8
    num_layers: int = 0  # 0: no transformer, and no positions

    def build(self) -> StreamingTransformer | None:
        """The transformer; it adds sinusoidal positions to what it reads."""
        if not self.num_layers:
            return None
        return StreamingTransformer(
            d_model=self.d_model,
            num_heads=self.num_heads,
            num_layers=self.num_layers,
            dim_feedforward=4 * self.d_model,
            dropout=0.0,
            norm_first=True,
            bias_ff=False,
            bias_attn=False,
            causal=False,
            activation="gelu",
            memory_efficient=True,
        )


SCALES = {
    "none": StyleScale(512),
    "xsmall": StyleScale(256, num_heads=8, num_layers=4),
    "default": StyleScale(512, num_heads=8, num_layers=8),
    "large": StyleScale(1024, num_heads=16, num_layers=24),
}


def get_style_scale(scale: str | StyleScale) -> StyleScale:
    """A scale by name, or as it is.

    Raises:
        ValueError: An unknown name.
    """
    if isinstance(scale, StyleScale):
        return scale
    if scale not in SCALES:
        raise ValueError(f"transformer_scale is {scale!r}. Choose one of: {', '.join(SCALES)}.")
    return SCALES[scale]


logger = logging.getLogger(__name__)

MASK_RATE = 75  # frames per second by which real steps are counted, whoever listens


class StyleInputs(tp.NamedTuple):
    """A batch of clips after all decisions."""

    excerpts: Tensor  # [N, T] what is heard of the clips that are there
    sample_rate: int  # of the excerpts
    rows: Tensor  # [N] long, which samples of the batch they belong to
    lengths: Tensor  # [B] long, each whole clip at the conditioner's rate, 0 where there is none
    excerpt_mask: Tensor | None  # [B, F] bool, codec frames that the excerpts show
    num_codebooks: int  # of the bottleneck
    codebook_seed: int  # draws the start and the revivals of its codebooks


class StyleConditioner(WavConditioner):
    """Listens to an excerpt of a clip.

    A null clip gives zero vectors and takes no part in any statistics.

    Args:
        feature_extractor: The frozen network; see `features.py`.
        output_dim: Width of the language model.
        model_name, encodec_checkpoint, encodec_n_q: Chose the feature extractor; not read here.
        transformer_scale: A key of `SCALES`, or sizes of one's own.
        sample_rate: Samples per second of the clips.
        length: Seconds of the excerpt outside training.
        ds_factor: One of so many frames is kept.
        n_q_out: Codebooks of the bottleneck; 0 is no bottleneck.
        eval_q: Codebooks that pass outside training.
        q_dropout: In training draw how many pass.
        bins: Entries per codebook.
        varying_lengths: Seconds of the excerpt in training: shortest and longest.
        batch_norm: Normalise before the bottleneck, without affine parameters.
        compute_mask: Say which target frames the excerpt shows.
        num_codebooks_lm: Not read: what is shown is the same for all codebooks of the model.
        ds_rate_compression: Samples per frame of the codec whose tokens are the target.
        use_middle_of_segment: Always take the middle of the clip.
        rvq_threshold_ema_dead_code: Entries used less often are replaced.

    Raises:
        ValueError: An unknown scale, or a number out of its range.
    """

    def __init__(
        self,
        feature_extractor: FeatureExtractor,
        output_dim: int,
        *,
        model_name: str | None = None,
        encodec_checkpoint: str | None = None,
        encodec_n_q: int | None = None,
        transformer_scale: str | StyleScale = "default",
        sample_rate: int = 32_000,
        length: float = 3.0,
        ds_factor: int = 15,
        n_q_out: int = 6,
        eval_q: int = 3,
        q_dropout: bool = True,
        bins: int = 1024,
        varying_lengths: tp.Sequence[float] = (1.5, 4.5),
        batch_norm: bool = True,
        compute_mask: bool = True,
        num_codebooks_lm: int | None = None,
        ds_rate_compression: int = 640,
        use_middle_of_segment: bool = False,
        rvq_threshold_ema_dead_code: float = 0.1,
    ):
        scale = get_style_scale(transformer_scale)
        super().__init__(scale.d_model, output_dim)
        self.feature_extractor = feature_extractor
        self.sample_rate = sample_rate
        self.varying_lengths = _shortest_and_longest(varying_lengths)
        self.compute_mask = compute_mask
        self.hop = ds_rate_compression
        self.use_middle_of_segment = use_middle_of_segment

        self.embed = feature_extractor.new_embed(scale.d_model)
        self.transformer = scale.build()
        self.rvq = None
        if n_q_out:
            self.rvq = ResidualVectorQuantizer(
                scale.d_model,
                n_q=n_q_out,
                q_dropout=q_dropout,
                bins=bins,
                threshold_ema_dead_code=rvq_threshold_ema_dead_code,
                shrinking_start=False,
            )
        self.batch_norm = SharedBatchNorm1d(scale.d_model, affine=False) if batch_norm else None
        self.eval_q, self.excerpt_length, self.ds_factor = eval_q, length, ds_factor
        self._check_params(eval_q if n_q_out else None, length, ds_factor, None)

    def set_params(
        self,
        eval_q: int | None = None,
        excerpt_length: float | None = None,
        ds_factor: int | None = None,
        encodec_n_q: int | None = None,
    ) -> None:
        """Change how closely a clip is listened to outside training; `None` leaves a value.

        Args:
            eval_q: Codebooks of the bottleneck that pass.
            excerpt_length: Seconds that are heard.
            ds_factor: One of so many frames is kept; also in training.
            encodec_n_q: Codebooks that are heard, where a codec listens.

        Raises:
            ValueError: A value is out of its range; none has been changed then.
        """
        self._check_params(eval_q, excerpt_length, ds_factor, encodec_n_q)
        if encodec_n_q is not None:
            tp.cast(EncodecFeatures, self.feature_extractor).set_num_codebooks(encodec_n_q)
        if eval_q is not None:
            self.eval_q = eval_q
        if excerpt_length is not None:
            self.excerpt_length = excerpt_length
        if ds_factor is not None:
            self.ds_factor = ds_factor

    def freeze_statistics(self) -> None:
        """Keep batch norm and codebooks as they are, in the midst of training."""
        for part in (self.batch_norm, self.rvq):
            if part is not None:
                part.eval()

    def prepare(self, values: WavCondition, rng: Rng = None) -> StyleInputs:
        """Draw the excerpts and the number of codebooks.

        In training all excerpts are of one random length, which is shortened to what fits into
        the shortest clip. A clip's own `start` wins over the dice.

        Args:
            values: Clips `[B, 1, T]` at the conditioner's sample rate, or all of them at that of
                the feature extractor. Neither changes what is drawn.
            rng: One generator, or one per sample; `None` takes the middle of the real audio and
                what evaluation uses of everything else, also in training.

        Raises:
            ValueError: A clip is shorter than the excerpt, or has another sample rate.
        """
        rate = self._rate_of([r for r, length in zip(values.sample_rate, values.length) if length])
        lengths = [int(length) * self.sample_rate // rate for length in values.length]
        rows = [row for row, length in enumerate(lengths) if length > 0]
        shared = generator_for_all(rng) if self.training else None
        shortest = min((lengths[row] for row in rows), default=0)
        if rows and isinstance(rng, BatchGenerators) and rng.shortest_clip is not None:
            shortest = rng.shortest_clip
        length = self._draw_length(shortest, shared)
        excerpts = draw_excerpts(
            lengths,
            [None if s is None else round(s * self.sample_rate) for s in values.start],
            length,
            self.sample_rate,
            None if self.use_middle_of_segment else rng,
        )
        heard_length = length * rate // self.sample_rate
        starts = [e.start * rate // self.sample_rate for e in excerpts if e is not None]
        heard = [values.wav[r, 0, s : s + heard_length] for r, s in zip(rows, starts)]
        return StyleInputs(
            excerpts=torch.stack(heard) if heard else torch.zeros(0, heard_length),
            sample_rate=rate,
            rows=torch.tensor(rows, dtype=torch.long),
            lengths=torch.tensor(lengths),
            excerpt_mask=covered_frames(excerpts, self.hop) if self.compute_mask and rows else None,
            num_codebooks=self._draw_num_codebooks(shared),
            codebook_seed=0 if shared is None else _draw_seed(shared),
        )

    def forward(self, prepared: StyleInputs) -> Condition:
        hidden = self.embed(self._features(prepared))
        if self.transformer is not None:
            hidden = self.transformer(hidden)
        hidden = hidden[: len(prepared.rows)]  # none, where only silence was listened to
        hidden = self._quantize(hidden, prepared)[:, :: self.ds_factor]

        B, P = len(prepared.lengths), hidden.shape[1]
        rows = prepared.rows.to(self.device)
        hidden = hidden.new_zeros(B, P, self.dim).index_copy(0, rows, hidden)
        mask = length_to_mask(self.real_steps(prepared.lengths), P).to(self.device)
        excerpt_mask = (
            None if prepared.excerpt_mask is None else prepared.excerpt_mask.to(self.device)
        )
        return self.project(hidden, mask)._replace(excerpt_mask=excerpt_mask)

    def _features(self, prepared: StyleInputs) -> Tensor:
        """Excerpts to frames `[N, frames, dim]` of the feature extractor, without gradient.

        Without any clip it gives one silent frame, of which nothing is kept. The layers run all
        the same: in a distributed run each process then takes part in the same sums, and each
        weight gets a gradient, if only of zeros.
        """
        if len(prepared.excerpts):
            excerpts = prepared.excerpts.to(self.device)
            wav = resample(excerpts, prepared.sample_rate, self.feature_extractor.sample_rate)
            features = self.feature_extractor.features(wav)
        else:
            features = self.feature_extractor.silence(self.device)
        return features.to(self.output_proj.weight) if features.is_floating_point() else features

    def _quantize(self, hidden: Tensor, prepared: StyleInputs) -> Tensor:
        """Pass `[N, frames, width]` through batch norm and quantizer, in their own precision."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.transpose(1, 2)
            if self.batch_norm is not None:
                hidden = self.batch_norm(hidden.to(self.batch_norm.running_mean))
            if self.rvq is not None:
                rng = torch.Generator().manual_seed(prepared.codebook_seed)
                rate, n_q = self.feature_extractor.frame_rate, prepared.num_codebooks
                hidden = self.rvq(hidden, rate, num_codebooks=n_q, rng=rng).x
            return hidden.transpose(1, 2)

    def real_steps(self, lengths: Tensor) -> Tensor:
        """Steps that clips of so many samples would give, as released models count them.

        The whole clip counts, not the excerpt, and a started step counts as a whole one.
        """
        samples_per_step = self.sample_rate * self.ds_factor
        return (lengths * MASK_RATE + samples_per_step - 1) // samples_per_step

    def _draw_length(self, shortest: int, rng: torch.Generator | None) -> int:
        """Samples of the excerpts of one batch; `shortest` are those of its shortest clip."""
        if rng is None:
            return int(self.excerpt_length * self.sample_rate)
        longest = shortest / self.sample_rate
        seconds = draw_length(self.varying_lengths, longest, rng)
        if shortest and not self._gives_a_frame(seconds):
            raise ValueError(
                f"A training clip of {longest} s is too short: the feature extractor computes no "
                "frame of it. Remove such files from the manifest."
            )
        return int(seconds * self.sample_rate)

    def is_long_enough(self, num_samples: int, sample_rate: int) -> bool:
        """Whether a whole excerpt fits into a clip of so many samples."""
        return num_samples >= int(self.excerpt_length * sample_rate)

    def _gives_a_frame(self, seconds: float) -> bool:
        return (
            self.feature_extractor.num_frames(int(seconds * self.feature_extractor.sample_rate)) > 0
        )

    def _draw_num_codebooks(self, rng: torch.Generator | None) -> int:
        if self.rvq is None or rng is None:
            return self.eval_q
        total = self.rvq.total_codebooks
        return draw_num_codebooks(total, rng) if self.rvq.q_dropout else total

    def _rate_of(self, sample_rates: list[int]) -> int:
        """The one sample rate of the clips of a batch."""
        accepted = (self.sample_rate, self.feature_extractor.sample_rate)
        for sample_rate in sample_rates:
            if sample_rate not in accepted or sample_rate != sample_rates[0]:
                raise ValueError(
                    f"A style clip has {sample_rate} samples per second but the conditioner takes "
                    f"all clips at {accepted[0]}, or all at its feature extractor's {accepted[1]}. "
                    "Convert them with `audiocraft.data.audio_utils.convert_audio`."
                )
        return sample_rates[0] if sample_rates else self.sample_rate

    def _check_params(self, eval_q, excerpt_length, ds_factor, encodec_n_q) -> None:
        most = self.rvq.total_codebooks if self.rvq is not None else 0
        if eval_q is not None and not (is_integer(eval_q) and 1 <= eval_q <= most):
            raise ValueError(
                f"eval_q is {eval_q!r} but the bottleneck has {most} codebooks. Choose 1 to {most}."
            )
        if excerpt_length is not None:
            self._check_excerpt_length(excerpt_length)
        if ds_factor is not None and not (is_integer(ds_factor) and ds_factor >= 1):
            raise ValueError(f"ds_factor must be a whole number, at least 1, but is {ds_factor!r}.")
        if encodec_n_q is not None and not isinstance(self.feature_extractor, EncodecFeatures):
            raise ValueError(
                f"encodec_n_q is {encodec_n_q} but the feature extractor is "
                f"{type(self.feature_extractor).__name__}, not a codec. Leave it out."
            )

    def _check_excerpt_length(self, seconds: float) -> None:
        if not is_number(seconds):
            raise ValueError(f"excerpt_length must be a number of seconds but is {seconds!r}.")
        if seconds <= 0 or not self._gives_a_frame(seconds):
            raise ValueError(
                f"excerpt_length is {seconds} s, of which the feature extractor computes no frame. "
                f"Give between {self.varying_lengths[0]} and {self.varying_lengths[1]} s."
            )
        if not self.varying_lengths[0] <= seconds <= self.varying_lengths[1]:
            logger.warning(
                "An excerpt of %s s is outside what the model was trained with, %s to %s s.",
                seconds,
                *self.varying_lengths,
            )


def _shortest_and_longest(varying_lengths: tp.Sequence[float]) -> tuple[float, float]:
    given = list(varying_lengths or [])
    if len(given) != 2 or not 0 < given[0] <= given[1]:
        raise ValueError(
            f"varying_lengths is {given}. Give the shortest and the longest "
            "excerpt in seconds, such as [1.5, 4.5]."
        )
    return given[0], given[1]


def _draw_seed(rng: torch.Generator) -> int:
    return int(torch.randint(2**31, (), generator=rng))
