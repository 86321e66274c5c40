"""Does a device compute what the CPU does? Some give garbage without an error.

Three small models of the real architecture, with weights from a seed, run on the CPU and on the
device: a language model with its gradients, a style conditioner, a tokenizer there and back. Only
numbers are compared, so nothing needs to be downloaded, and it takes seconds.
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
Compute = tp.Callable[[Probe, torch.device], Results]

SEED = 0
CPU = torch.device("cpu")
# What rounding explains, relative to the size of the numbers; garbage differs by about 1. Of codes
# so many may be others: ties fall either way.
TOLERANCE, TOLERANCE_HALF = 0.03, 0.1
SAMPLE_RATE, CLIPS, SECONDS = 16_000, 2, 2.0


class Verdict(tp.NamedTuple):
    """What became of one part of a model on a device."""

    part: str
    is_sound: bool
    message: str


class Spectrogram(FeatureExtractor):
    """Listens for the style conditioner without weights: frames of magnitudes."""

    sample_rate = SAMPLE_RATE
    frame_rate = 50.0
    hop, dim = 320, 64

    def features(self, wav: Tensor) -> Tensor:
        frames = wav.unfold(-1, self.dim, self.hop)
        return frames * torch.hann_window(self.dim, device=wav.device)

    def num_frames(self, num_samples: int) -> int:
        return max(0, (num_samples - self.dim) // self.hop + 1)


def seeded(build: tp.Callable[[], nn.Module]) -> tp.Any:
    """Build a module on the CPU with the weights of the seed; the global dice are left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return build()


def noise(*shape: int) -> Tensor:
    """The same noise at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(SEED))


def probe_language_model(device: torch.device) -> Results:
    """Logits, loss and gradients of a transformer over four codebooks, with a prefix."""
    model: LMModel = seeded(
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
    """The prefix that a style conditioner makes of noise, bottleneck included."""

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

    conditioner = seeded(build).to(device).eval()
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
    """Codes of noise, and the sound of codes."""
    tokenizer = seeded(lambda: get_debug_compression_model(SAMPLE_RATE)).to(device).eval()
    with torch.no_grad():
        codes, _ = tokenizer.encode(noise(CLIPS, 1, int(SECONDS * SAMPLE_RATE)).to(device))
        known = (noise(CLIPS, tokenizer.num_codebooks, 50).abs() * 1000).long()
        sound = tokenizer.decode((known % tokenizer.cardinality).to(device))
    return {"codes": codes.cpu(), "sound": sound.float().cpu()}


PROBES: dict[str, Probe] = {
    "language model": probe_language_model,
    "style conditioner": probe_style_conditioner,
    "tokenizer": probe_tokenizer,
}


def compute(probe: Probe, device: torch.device) -> Results:
    """Run a probe on a device."""
    return probe(device)


def check_device(
    device: torch.device, dtype: torch.dtype = torch.float32, run: Compute = compute
) -> list[Verdict]:
    """Compare a device with the CPU.

    Args:
        device: To be checked.
        dtype: In which a language model is to be trained there, under autocast.
        run: Runs a probe on a device.
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
    part: str, expected: Results, find: tp.Callable[[], Results], tolerance: float
) -> Verdict:
    """Compare what a device finds with what is expected."""
    try:
        found = find()
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        return Verdict(part, False, f"{type(error).__name__}: {reason}")
    differences = {name: difference(found[name], value) for name, value in expected.items()}
    name, worst = max(differences.items(), key=lambda item: item[1])
    return Verdict(part, worst <= tolerance, f"differs by {worst:.2g} of its size ({name})")


def difference(found: Tensor, expected: Tensor) -> float:
    """Relative distance of numbers; the share of codes that are not the same; infinite for NaN."""
    if found.shape != expected.shape:
        return math.inf
    if not expected.is_floating_point():
        return float((found != expected).float().mean())
    size = (expected - expected.mean() if expected.numel() > 1 else expected).norm()
    distance = float((found - expected).norm() / size.clamp(min=1e-12))
    return distance if math.isfinite(distance) else math.inf
