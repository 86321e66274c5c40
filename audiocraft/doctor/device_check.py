"""Comparison of a device with the CPU: some devices give wrong results without an error.

Three small models of the real architecture, with weights from a seed, run on both: a language model
with its gradients, a style conditioner, and a tokenizer (encoding and decoding). No pretrained
weights are needed, and it takes seconds.
"""

import math
import typing as tp

import torch
from torch import Tensor, nn

from ..data.conditions import WavCondition
from ..models.builders import get_debug_compression_model
from ..models.lm import LMModel
from ..modules.codebooks_patterns import DelayedPatternProvider
from ..modules.conditioners import (
    Condition,
    ConditionFuser,
    ConditionProvider,
    FeatureExtractor,
    StyleConditioner,
)
from ..solvers.cross_entropy import codebook_cross_entropy

Results = dict[str, Tensor]  # on the CPU
Probe = tp.Callable[[torch.device], Results]
RunProbe = tp.Callable[[Probe, torch.device], Results]

SEED = 0
CPU = torch.device("cpu")
# Largest difference that rounding explains, relative to the norm (wrong results differ by about 1);
# of codes, the share that may differ, since ties are resolved either way.
TOLERANCE, TOLERANCE_HALF = 0.03, 0.1
SAMPLE_RATE, CLIPS, SECONDS = 16_000, 2, 2.0


class DeviceResult(tp.NamedTuple):
    """Result of one part of a model on a device."""

    part: str
    is_correct: bool
    message: str


class Spectrogram(FeatureExtractor):
    """Feature extractor without weights: windowed frames of the waveform."""

    sample_rate = SAMPLE_RATE
    frame_rate = 50.0
    hop, dim = 320, 64

    def features(self, wav: Tensor) -> Tensor:
        frames = wav.unfold(-1, self.dim, self.hop)
        return frames * torch.hann_window(self.dim, device=wav.device)

    def num_frames(self, num_samples: int) -> int:
        return max(0, (num_samples - self.dim) // self.hop + 1)


def build_seeded(build: tp.Callable[[], nn.Module]) -> tp.Any:
    """Build a module on the CPU with weights from the seed; global generators are unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return build()


def noise(*shape: int) -> Tensor:
    """Noise from the seed, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(SEED))


def probe_language_model(device: torch.device) -> Results:
    """Compute logits, loss and gradients of a transformer over four codebooks, with a prefix."""
    model: LMModel = build_seeded(
        lambda: LMModel(
            DelayedPatternProvider(4),
            ConditionProvider({}),
            ConditionFuser({"prepend": ["clip"]}),
            n_q=4,
            card=64,
            dim=64,
            norm_first=True,
            num_heads=4,
            num_layers=2,
            dropout=0.0,
        )
    ).to(device)
    codes = (noise(CLIPS, 4, 32).abs() * 1000).long() % model.card
    prefix = Condition(noise(CLIPS, 3, 64).to(device), torch.ones(CLIPS, 3, device=device).bool())
    codes = codes.to(device)
    output = model.compute_predictions(codes, {"clip": prefix})
    loss, _ = codebook_cross_entropy(output.logits, codes, output.mask)
    loss.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return {
        "logits": output.logits[output.mask].detach().float().cpu(),
        "loss": loss.detach().float().cpu(),
        "gradients": torch.cat(gradients).float().cpu(),
    }


def probe_style_conditioner(device: torch.device) -> Results:
    """Compute the prefix that a style conditioner encodes from noise, bottleneck included."""

    def build() -> StyleConditioner:
        conditioner = StyleConditioner(
            Spectrogram(),
            output_dim=32,
            transformer_scale="xsmall",
            sample_rate=SAMPLE_RATE,
            length=SECONDS,
            varying_lengths=(1.0, SECONDS),
            bins=64,
        )
        assert conditioner.rvq is not None  # noqa: S101
        conditioner.rvq.initialize(torch.randn(1, conditioner.dim, 500))
        return conditioner

    conditioner = build_seeded(build).to(device).eval()
    length = int(SECONDS * SAMPLE_RATE)
    clips = WavCondition(
        wav=noise(CLIPS, 1, length),
        length=torch.full((CLIPS,), length),
        sample_rate=[SAMPLE_RATE] * CLIPS,
        start=[None] * CLIPS,
    )
    with torch.no_grad():
        condition = conditioner(conditioner.prepare(clips))
    return {"prefix": condition.embed.float().cpu()}


def probe_tokenizer(device: torch.device) -> Results:
    """Encode noise to codes, and decode codes to a waveform."""
    tokenizer = build_seeded(lambda: get_debug_compression_model(SAMPLE_RATE)).to(device).eval()
    with torch.no_grad():
        codes, _ = tokenizer.encode(noise(CLIPS, 1, int(SECONDS * SAMPLE_RATE)).to(device))
        known = (noise(CLIPS, tokenizer.num_codebooks, 50).abs() * 1000).long()
        wav = tokenizer.decode((known % tokenizer.cardinality).to(device))
    return {"codes": codes.cpu(), "waveform": wav.float().cpu()}


PROBES: dict[str, Probe] = {
    "language model": probe_language_model,
    "style conditioner": probe_style_conditioner,
    "tokenizer": probe_tokenizer,
}


def run_probe(probe: Probe, device: torch.device) -> Results:
    """Run a probe on a device."""
    return probe(device)


def check_device(
    device: torch.device, dtype: torch.dtype = torch.float32, run: RunProbe = run_probe
) -> list[DeviceResult]:
    """Compare a device with the CPU.

    Args:
        device: Device to check.
        dtype: Autocast dtype of the training run.
        run: Function that runs a probe on a device.

    Returns:
        One result for each part.
    """
    verdicts = [
        compare(part, run(probe, CPU), lambda probe=probe: run(probe, device), TOLERANCE)
        for part, probe in PROBES.items()
    ]
    if dtype is not torch.float32:
        part, probe = f"language model in {str(dtype).removeprefix('torch.')}", probe_language_model

        def in_half() -> Results:
            with torch.autocast(device.type, dtype=dtype):
                return run(probe, device)

        verdicts.append(compare(part, run(probe, CPU), in_half, TOLERANCE_HALF))
    return verdicts


def compare(
    part: str, expected: Results, get_results: tp.Callable[[], Results], tolerance: float
) -> DeviceResult:
    """Compare results of a device with those expected; an exception counts as wrong results."""
    try:
        found = get_results()
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        return DeviceResult(part, False, f"{type(error).__name__}: {reason}")
    differences = {
        name: relative_difference(found[name], value) for name, value in expected.items()
    }
    name, worst = max(differences.items(), key=lambda item: item[1])
    return DeviceResult(part, worst <= tolerance, f"differs by {worst:.2g} of its norm ({name})")


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Relative distance of values, or share of different codes; infinite for NaN."""
    if found.shape != expected.shape:
        return math.inf
    if not expected.is_floating_point():
        return float((found != expected).float().mean())
    size = (expected - expected.mean() if expected.numel() > 1 else expected).norm()
    distance = float((found - expected).norm() / size.clamp(min=1e-12))
    return distance if math.isfinite(distance) else math.inf
