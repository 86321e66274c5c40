"""Training of codecs in this process: tiny models, a few updates."""

import gc
import json
import math
import warnings

import pytest
import torch

from audiocraft import train
from audiocraft.data.audio import audio_write
from audiocraft.data.audio_dataset import main as write_manifest
from audiocraft.errors import CheckpointError, ConfigError
from audiocraft.models.loaders import load_compression_model
from audiocraft.solvers.builders import get_solver
from audiocraft.solvers.compression import CompressionSolver

# A solver that refuses its settings leaves files open until it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

RATE = 8000
TINY = f"""
    solver=compression/debug device=cpu sample_rate={RATE} num_threads=1
    logging.log_tensorboard=false
    seanet.n_filters=2 seanet.ratios=[4,4,2] seanet.lstm=1 seanet.dimension=8
    rvq.n_q=3 rvq.bins=16 rvq.kmeans_iters=4
    adversarial.adversaries=[msstftd] msstftd.filters=2 msstftd.n_ffts=[256,128]
    msstftd.hop_lengths=[64,32] msstftd.win_lengths=[256,128]
    losses.adv=1 losses.feat=1 losses.l1=0.1 losses.msspec=1
    balancer.balance_grads=true balancer.ema_decay=0.99 balancer.per_batch_item=true
    msspec.range_end=9 msspec.n_mels=16
    dataset.batch_size=2 dataset.num_workers=0 dataset.segment_duration=0.6
    dataset.valid.num_samples=2 dataset.evaluate.num_samples=2 dataset.evaluate.batch_size=2
    dataset.generate.num_samples=1 dataset.generate.segment_duration=1
    generate.num_workers=0 evaluate.num_workers=0 generate.every=0 evaluate.every=0
    generate.audio.format=wav optim.epochs=2 optim.updates_per_epoch=3
""".split()


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A manifest of four short files: two chords, noise, silence."""
    folder = tmp_path_factory.mktemp("music")
    time = torch.arange(2 * RATE) / RATE
    chords = [sum(torch.sin(2 * math.pi * f * time) for f in fs) for fs in ((220, 330), (440, 523))]
    noise = torch.randn(2 * RATE, generator=torch.Generator().manual_seed(0))
    for name, wav in zip("abcd", [*chords, noise, torch.zeros(2 * RATE)]):
        audio_write(folder / name, 0.2 * wav[None], RATE, strategy="clip")
    write_manifest([str(folder), str(folder / "data.jsonl")])
    return folder


@pytest.fixture(scope="module")
def build(tmp_path_factory, music):
    """A function that builds the solver of some overrides; the same ones resume."""
    solvers = []

    def built(*overrides: str) -> CompressionSolver:
        for solver in solvers:
            solver.lock.release()
        splits = [f"datasource.{s}={music}" for s in ("train", "valid", "evaluate", "generate")]
        xp = train.main.get_xp([*TINY, *splits, *overrides])
        xp.folder.mkdir(parents=True, exist_ok=True)
        with xp.enter():
            solver = get_solver(xp.cfg)
        assert isinstance(solver, CompressionSolver)
        solvers.append(solver)
        return solver

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.main.dora, "dir", tmp_path_factory.mktemp("outputs"))
        yield built
    for solver in solvers:
        solver.lock.release()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def run(solver):
    with solver.xp.enter():
        solver.run()
    return solver


def state_of(solver):
    """Everything that decides how training continues, flat."""
    found = {f"model.{k}": v for k, v in solver.model.state_dict().items()}
    for name, value in solver.adv_losses.state_dict().items():
        if isinstance(value, torch.Tensor):
            found[f"adv.{name}"] = value
    optimizers = [("codec", solver.optimizer)]
    optimizers += [(n, a.optimizer) for n, a in solver.adv_losses.items()]
    for name, optimizer in optimizers:
        for number, moments in optimizer.state_dict()["state"].items():
            found |= {f"{name}.{number}.{k}": torch.as_tensor(v) for k, v in moments.items()}
    averages = solver.ema.state["model"] if solver.ema else {}
    return found | {f"ema.{k}": v for k, v in averages.items()}


def assert_equal_states(one, other):
    one, other = state_of(one), state_of(other)
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


@pytest.fixture(scope="module")
def finished(build):
    return run(build("evaluate.every=2", "generate.every=2"))


def test_run_ends_with_history_samples_and_a_codec(finished):
    solver = finished
    assert [sorted(epoch) for epoch in solver.history] == [
        ["train", "valid"],
        ["evaluate", "generate", "train", "valid"],
    ]
    metrics = solver.history[1]
    assert {"d_msstftd", "acc_msstftd", "adv_msstftd", "feat_msstftd"} <= metrics["train"].keys()
    assert {"ratio_l1", "penalty", "perplexity_q3", "usage_q1"} <= metrics["train"].keys()
    assert {"revived_q2", "bits_per_second"} <= metrics["train"].keys()
    assert {"si_snr", "mel_distance", "perplexity_q1"} <= metrics["valid"].keys()
    assert {"chroma_agreement", "onset_agreement"} <= metrics["evaluate"].keys()
    assert all(math.isfinite(v) for stage in metrics.values() for v in stage.values())
    (description,) = (solver.folder / "samples" / "2").glob("*.json")
    files = json.loads(description.read_text())
    for kind in ("original", "reconstruction"):
        assert (description.parent / files[kind]).exists()
    assert description.with_suffix(".png").exists()
    codec = load_compression_model(str(solver.checkpoints.last))
    wav = 0.1 * torch.randn(1, 1, RATE)
    codes, _ = codec.encode(wav)
    assert codec.decode(codes).shape[-1] >= RATE
    assert codec.num_codebooks == 3


class Killed(Exception):
    """A run that ends in the middle of an epoch."""


@pytest.mark.parametrize("update", [1, 4])
def test_run_killed_in_an_epoch_continues_bit_for_bit(build, monkeypatch, update):
    options = ("checkpoint.every_updates=1", "adversarial.every=2")
    undisturbed = run(build(*options, f"label=whole_{update}"))
    options += (f"label=killed_{update}",)
    killed = build(*options)
    step, done = killed.train_step, []

    def interrupted(*args):
        if len(done) == update:
            raise Killed
        done.append(None)
        return step(*args)

    monkeypatch.setattr(killed, "train_step", interrupted)
    with pytest.raises(Killed):
        run(killed)
    resumed = run(build(*options))
    assert resumed.history == undisturbed.history
    assert_equal_states(resumed, undisturbed)


def test_discriminator_is_updated_before_the_codec(build):
    solver = build("label=order", "optim.epochs=1")
    order = []
    for name in ("update_adversaries", "update_generator"):
        method = getattr(solver.update, name)
        setattr(solver.update, name, lambda *a, n=name, m=method: (order.append(n), m(*a))[1])
    run(solver)
    assert order[:2] == ["update_adversaries", "update_generator"]


def test_training_reduces_the_codec_loss(build):
    options = ("adversarial.adversaries=[]", "optim.updates_per_epoch=12", "optim.lr=1e-2")
    history = run(build("label=learns", *options)).history
    assert history[1]["train"]["msspec"] < 0.97 * history[0]["train"]["msspec"]


def test_start_and_warmup_delay_the_adversary(build):
    solver = build("adversarial.start=2", "adversarial.warmup=2", "optim.epochs=1")
    before = {k: v.clone() for k, v in solver.model.state_dict().items()}
    seen = []
    step = solver.train_step

    def watched(idx, wavs):
        metrics = step(idx, wavs)
        seen.append(("d_loss" in metrics, "adv_msstftd" in metrics, "l1" in metrics))
        return metrics

    solver.train_step = watched
    run(solver)
    assert seen == [(False, False, True), (False, False, True), (True, False, False)]
    assert any(not torch.equal(v, before[k]) for k, v in solver.model.state_dict().items())


def test_non_finite_loss_names_update_and_files_and_keeps_the_weights(build):
    solver = build("label=spoiled")
    loss = solver.update.losses["l1"]
    solver.update.losses["l1"] = Spoiled(loss, at=2)
    with pytest.raises(ConfigError, match=r"l1 is nan.*\.wav at .* s"):
        run(solver)
    assert all(v.isfinite().all() for v in solver.model.parameters())


class Spoiled(torch.nn.Module):
    """A loss that is not a number from one call on."""

    def __init__(self, loss, at):
        super().__init__()
        self.loss, self.left = loss, at

    def forward(self, estimate, target):
        self.left -= 1
        return self.loss(estimate, target) * (math.nan if self.left < 0 else 1)


def test_warm_start_continues_codec_and_discriminator(build, finished):
    continued = build(f"continue_from={finished.checkpoints.last}", "label=continued")
    with continued.xp.enter():
        continued.continue_from(str(finished.checkpoints.last))
    assert continued.adversarial_schedule.warmup == 0
    averages = finished.ema.state["model"]
    for key, value in continued.model.state_dict().items():
        assert torch.equal(value, averages[key]), key
    for key, value in finished.adv_losses.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, continued.adv_losses.state_dict()[key])


def test_another_architecture_names_the_settings_that_differ(build, finished):
    other = build(f"continue_from={finished.checkpoints.last}", "seanet.n_filters=4", "rvq.bins=8")
    with pytest.raises(CheckpointError, match=r"rvq\.bins is 16 there and 8 here.*n_filters"):
        run(other)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["fsdp.use=true"], "fsdp.use"),
        (["optim.accumulate=2"], "optim.accumulate"),
        (["autocast=true", "autocast_dtype=float16"], "float16"),
        (["dataset.segment_duration=null"], "segment_duration"),
        (["losses.l1=0", "losses.msspec=0", "losses.adv=0", "losses.feat=0"], "losses"),
        (["losses.l1=-1"], "losses.l1"),
        (["adversarial.adv_loss=wgan"], "adv_loss"),
        (["adversarial.feat_loss=l3"], "feat_loss"),
        (["adversarial.adversaries=[x]"], "adversaries"),
        (["adversarial.start=-1"], "adversarial.start"),
        (["adversarial.every=0"], "adversarial.every"),
        (["datasource.valid=null"], "datasource.valid"),
        (["rvq.n_q=0"], "n_q"),
    ],
)
def test_unsupported_setting_raises(build, overrides, key):
    with pytest.raises(ConfigError, match=key):
        build(*overrides)


def test_segment_shorter_than_the_discriminator_windows_raises(build):
    with pytest.raises((ConfigError, ValueError), match="segment_duration"):
        run(build("dataset.segment_duration=0.02", "label=short"))
