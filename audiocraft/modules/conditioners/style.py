"""Style conditioner: encodes an excerpt of a clip as a short, coarse prefix.

A frozen feature extractor reads an excerpt. A small transformer, a batch norm and a residual
quantizer with few codebooks keep how the excerpt sounds and discard what it plays, and one frame
in `ds_factor` is kept. The fewer codebooks are used, the less the excerpt constrains the music.

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
from ...utils.device import to_device
from ...utils.numbers import is_integer, is_number
from ..batch_norm import SharedBatchNorm1d
from ..transformer import StreamingTransformer, TransformerSpec
from .base import BatchGenerators, Condition, Rng, WavConditioner, length_to_mask
from .excerpt import covered_frames, draw_excerpts, draw_length
from .features import EncodecFeatures, FeatureExtractor

logger = logging.getLogger(__name__)

MASK_RATE = 75  # frames per second by which valid steps are counted, for any feature extractor


@dataclass(frozen=True)
class StyleScale:
    """Sizes of the style transformer; the feed-forward layers are four times as wide."""

    d_model: int
    num_heads: int = 8
    num_layers: int = 0  # 0: no transformer, and no positions

    def build(self) -> StreamingTransformer | None:
        """Build the transformer; it adds sinusoidal positions to its input."""
        if not self.num_layers:
            return None
        spec = TransformerSpec(
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
        return StreamingTransformer.from_spec(spec)


SCALES = {
    "none": StyleScale(512),
    "xsmall": StyleScale(256, num_heads=8, num_layers=4),
    "default": StyleScale(512, num_heads=8, num_layers=8),
    "large": StyleScale(1024, num_heads=16, num_layers=24),
}


def get_style_scale(scale: str | StyleScale) -> StyleScale:
    """Scale of the style transformer, by name or given.

    Raises:
        ValueError: The name is unknown.
    """
    if isinstance(scale, StyleScale):
        return scale
    if scale not in SCALES:
        raise ValueError(f"transformer_scale is {scale!r}. Choose one of: {', '.join(SCALES)}.")
    return SCALES[scale]


class StyleInputs(tp.NamedTuple):
    """Input of `StyleConditioner.forward`: a batch of clips after all random decisions."""

    excerpts: Tensor  # [N, T], one per clip that is not null
    sample_rate: int  # of `excerpts`
    rows: Tensor  # [N] long, samples of the batch to which the excerpts belong
    lengths: Tensor  # [B] long, samples of each whole clip at the conditioner's rate; 0: null
    excerpt_mask: Tensor | None  # [B, F] bool, codec frames covered by the excerpts
    num_codebooks: int  # of the bottleneck
    codebook_seed: int  # draws the k-means start and the revival of dead codes
    update_statistics: bool  # of batch norm and codebooks; only a training step requests it


class StyleConditioner(WavConditioner):
    """Encodes an excerpt of each clip.

    A null clip gives zero vectors and takes no part in any statistics. Batch norm and codebooks
    follow the data only when `prepare` is given `BatchGenerators` in training mode.

    Args:
        feature_extractor: Frozen network; see `features.py`.
        output_dim: Width of the language model.
        model_name, encodec_checkpoint, encodec_n_q: Select the feature extractor in the builder;
            unused here.
        transformer_scale: A key of `SCALES`, or custom sizes.
        sample_rate: Sample rate of the clips.
        length: Duration of the excerpt outside training, in seconds.
        ds_factor: One frame in `ds_factor` is kept.
        n_q_out: Codebooks of the bottleneck; 0 is no bottleneck.
        eval_q: Codebooks used outside training.
        q_dropout: Draw the number of codebooks in training.
        bins: Entries per codebook.
        varying_lengths: Shortest and longest excerpt in training, in seconds.
        batch_norm: Normalise before the bottleneck, without affine parameters.
        compute_mask: Return the excerpt mask.
        num_codebooks_lm: Unused: the excerpt mask is the same for all codebooks of the model.
        ds_rate_compression: Samples per frame of the target codec.
        use_middle_of_segment: Always take the middle of the clip.
        rvq_threshold_ema_dead_code: Entries used less often are replaced.

    Raises:
        ValueError: The scale is unknown, or a number is out of its range.
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
        """Set how closely the music follows a clip outside training; `None` keeps a value.

        Args:
            eval_q: Codebooks of the bottleneck.
            excerpt_length: Duration of the excerpt, in seconds.
            ds_factor: One frame in `ds_factor` is kept; also in training.
            encodec_n_q: Codebooks of the codec, where it is the feature extractor.

        Raises:
            ValueError: A value is out of its range; no value has been changed then.
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
        """Keep batch norm and codebooks unchanged until the next call of `train`."""
        for part in (self.batch_norm, self.rvq):
            if part is not None:
                part.eval()

    def prepare(self, values: WavCondition, rng: Rng = None) -> StyleInputs:
        """Draw the excerpts and the number of codebooks.

        In training all excerpts have one random length, which is reduced to what fits into the
        shortest clip. A clip's own `start` takes precedence over a random one.

        Args:
            values: Clips `[B, 1, T]` at the conditioner's sample rate, or all of them at that of
                the feature extractor. The rate does not change what is drawn.
            rng: Random generators; `None` takes the middle of the valid audio. Only
                `BatchGenerators` request training.

        Raises:
            ValueError: A clip is shorter than the excerpt, or has another sample rate.
        """
        rate = self._rate_of([r for r, length in zip(values.sample_rate, values.length) if length])
        lengths = [int(length) * self.sample_rate // rate for length in values.length]
        rows = [row for row, length in enumerate(lengths) if length > 0]
        training = self.training_generators(rng)
        length = self._excerpt_samples([lengths[row] for row in rows], training)
        excerpts = draw_excerpts(
            lengths,
            [None if s is None else round(s * self.sample_rate) for s in values.start],
            length,
            self.sample_rate,
            None if self.use_middle_of_segment else rng,
        )
        num_samples = length * rate // self.sample_rate
        starts = [e.start * rate // self.sample_rate for e in excerpts if e is not None]
        wavs = [values.wav[r, 0, s : s + num_samples] for r, s in zip(rows, starts)]
        return StyleInputs(
            excerpts=torch.stack(wavs) if wavs else torch.zeros(0, num_samples),
            sample_rate=rate,
            rows=torch.tensor(rows, dtype=torch.long),
            lengths=torch.tensor(lengths),
            excerpt_mask=covered_frames(excerpts, self.hop) if self.compute_mask and rows else None,
            num_codebooks=self._draw_num_codebooks(training),
            codebook_seed=0 if training is None else _draw_seed(training.batch),
            update_statistics=training is not None,
        )

    def forward(self, prepared: StyleInputs) -> Condition:
        hidden = self.embed(self._features(prepared))  # [N, frames, width]
        if self.transformer is not None:
            hidden = self.transformer(hidden)
        hidden = hidden[: len(prepared.rows)]  # drops the silent frame of a batch without clips
        hidden = self._quantize(hidden, prepared)[:, :: self.ds_factor]

        B, P = len(prepared.lengths), hidden.shape[1]
        rows = to_device(prepared.rows, self.device)
        hidden = hidden.new_zeros(B, P, self.dim).index_copy(0, rows, hidden)
        mask = length_to_mask(self.valid_steps(prepared.lengths), P)
        condition = self.project(hidden, to_device(mask, self.device))
        if prepared.excerpt_mask is None:
            return condition
        return condition._replace(excerpt_mask=to_device(prepared.excerpt_mask, self.device))

    def _features(self, prepared: StyleInputs) -> Tensor:
        """Compute features `[N, frames, dim]` of the excerpts, without gradient.

        A batch without clips gives one silent frame, which `forward` drops after the transformer.
        The layers run all the same: in a distributed run every process then takes part in the
        same sums, and every weight gets a gradient, if only of zeros.
        """
        if len(prepared.excerpts):
            excerpts = to_device(prepared.excerpts, self.device)
            wav = resample(excerpts, prepared.sample_rate, self.feature_extractor.sample_rate)
            features = self.feature_extractor.features(wav)
        else:
            features = self.feature_extractor.silence(self.device)
        return features.to(self.output_proj.weight) if features.is_floating_point() else features

    def _quantize(self, hidden: Tensor, prepared: StyleInputs) -> Tensor:
        """Apply batch norm and quantizer to `[N, frames, width]`, in their own precision."""
        update = prepared.update_statistics
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.transpose(1, 2)
            if self.batch_norm is not None:
                hidden = self.batch_norm(hidden.to(self.batch_norm.running_mean), update=update)
            if self.rvq is not None:
                rng = torch.Generator().manual_seed(prepared.codebook_seed)
                rate, n_q = self.feature_extractor.frame_rate, prepared.num_codebooks
                hidden = self.rvq(hidden, rate, num_codebooks=n_q, rng=rng, update=update).x
            return hidden.transpose(1, 2)

    def valid_steps(self, lengths: Tensor) -> Tensor:
        """Number of valid steps of clips with these lengths in samples, as in released models.

        The whole clip counts, not the excerpt, and the last step need not be complete.
        """
        samples_per_step = self.sample_rate * self.ds_factor
        return (lengths * MASK_RATE + samples_per_step - 1) // samples_per_step

    def _excerpt_samples(self, lengths: list[int], training: BatchGenerators | None) -> int:
        """Length of the excerpts of one batch, in samples.

        Args:
            lengths: Of the clips that are not null, in samples.
            training: Draw a length; `None` returns that of the evaluation.
        """
        if training is None:
            return int(self.excerpt_length * self.sample_rate)
        shortest = min(lengths, default=0)
        if lengths and training.shortest_clip is not None:
            shortest = training.shortest_clip
        longest = shortest / self.sample_rate
        seconds = draw_length(self.varying_lengths, longest, training.batch)
        if shortest and not self._gives_a_frame(seconds):
            raise ValueError(
                f"A training clip of {longest} s is too short: the feature extractor computes no "
                "frame of it. Remove such files from the manifest."
            )
        return int(seconds * self.sample_rate)

    def is_long_enough(self, num_samples: int, sample_rate: int) -> bool:
        """Whether a clip of `num_samples` is at least as long as the evaluation excerpt."""
        return num_samples >= int(self.excerpt_length * sample_rate)

    def _gives_a_frame(self, seconds: float) -> bool:
        """Whether the feature extractor computes any frame of an excerpt."""
        num_samples = int(seconds * self.feature_extractor.sample_rate)
        return self.feature_extractor.num_frames(num_samples) > 0

    def _draw_num_codebooks(self, training: BatchGenerators | None) -> int:
        if self.rvq is None or training is None:
            return self.eval_q
        total = self.rvq.total_codebooks
        return draw_num_codebooks(total, training.batch) if self.rvq.q_dropout else total

    def _rate_of(self, sample_rates: list[int]) -> int:
        """Sample rate of the clips of a batch, which must be equal."""
        accepted = (self.sample_rate, self.feature_extractor.sample_rate)
        for sample_rate in sample_rates:
            if sample_rate not in accepted or sample_rate != sample_rates[0]:
                raise ValueError(
                    f"A style clip has a sample rate of {sample_rate} Hz but the conditioner takes "
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
            raise ValueError(f"ds_factor is {ds_factor!r} but must be an integer of at least 1.")
        if encodec_n_q is not None and not isinstance(self.feature_extractor, EncodecFeatures):
            raise ValueError(
                f"encodec_n_q is {encodec_n_q} but the feature extractor is "
                f"{type(self.feature_extractor).__name__}, not a codec. Leave it out."
            )

    def _check_excerpt_length(self, seconds: float) -> None:
        if not is_number(seconds):
            raise ValueError(f"excerpt_length is {seconds!r} but must be a number of seconds.")
        if seconds <= 0 or not self._gives_a_frame(seconds):
            raise ValueError(
                f"excerpt_length is {seconds} s, of which the feature extractor computes no frame. "
                f"Give between {self.varying_lengths[0]} and {self.varying_lengths[1]} s."
            )
        if not self.varying_lengths[0] <= seconds <= self.varying_lengths[1]:
            logger.warning(
                "excerpt_length is %s s, outside the range of the training, %s to %s s.",
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
