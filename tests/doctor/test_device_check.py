"""Devices that give wrong results are detected."""

import pytest
import torch
from torch.nn import functional as F

from audiocraft.doctor import device_check
from audiocraft.doctor.device_check import check_device, relative_difference, run_probe

BROKEN = torch.device("cpu:0")  # not equal to `cpu`, and available everywhere
PARTS = ["language model", "style conditioner", "tokenizer"]


def device_that(spoils):
    """A function that runs a probe: correct on the CPU, wrong on the other device."""

    def run(probe, device):
        results = run_probe(probe, torch.device("cpu"))
        if device != BROKEN:
            return results
        return {name: spoils(value) for name, value in results.items()}

    return run


def correct(results):
    return {result.part: result.is_correct for result in results}


def test_the_cpu_passes_the_check():
    results = check_device(BROKEN)
    assert correct(results) == dict.fromkeys(PARTS, True)
    assert all("differs by 0 of its norm" in result.message for result in results)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_within_rounding_error(dtype):
    *_, half = check_device(BROKEN, dtype)
    assert half.part == f"language model in {str(dtype)[6:]}"
    assert half.is_correct
    assert "differs by 0 of" not in half.message  # it is computed in another order


def shuffled(value):
    return value.flatten()[torch.randperm(value.numel())].view(value.shape)


GARBAGE = {
    "zeros": torch.zeros_like,
    "not a number": lambda v: v * float("nan") if v.is_floating_point() else v * 0 - 1,
    "another order": shuffled,
    "a shifted copy": lambda v: v.roll(1, dims=-1) if v.dim() else v + 1,
    "another shape": lambda v: v[..., None],
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_wrong_results_of_every_part_are_reported(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        results = check_device(BROKEN, run=device_that(GARBAGE[kind]))
    assert correct(results) == dict.fromkeys(PARTS, False)


def test_rounding_noise_is_accepted():
    noise = lambda v: v * (1 + 1e-4 * torch.randn(v.shape)) if v.is_floating_point() else v  # noqa: E731
    assert all(correct(check_device(BROKEN, run=device_that(noise))).values())


def test_an_exception_of_the_device_is_reported():
    def run(probe, device):
        if device == BROKEN:
            raise RuntimeError("operator not implemented")
        return run_probe(probe, device)

    for result in check_device(BROKEN, run=run):
        assert not result.is_correct
        assert result.message == "RuntimeError: operator not implemented"


def test_a_wrong_operator_is_detected(monkeypatch):
    """Attention without a causal mask on one device."""
    attend = F.scaled_dot_product_attention

    def run(probe, device):
        with monkeypatch.context() as patched:
            if device == BROKEN:
                blind = lambda *args, is_causal=False, **kwargs: attend(*args, **kwargs)  # noqa: E731
                patched.setattr(F, "scaled_dot_product_attention", blind)
            return run_probe(probe, torch.device("cpu"))

    results = correct(check_device(BROKEN, run=run))
    assert results == dict.fromkeys(PARTS, True) | {"language model": False}


def test_probes_leave_the_global_generator_unchanged():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    for probe in device_check.PROBES.values():
        probe(torch.device("cpu"))
    assert torch.equal(torch.rand(1), expected)


def test_differences_are_relative_to_the_variation():
    expected = 100 + torch.tensor([-1.0, 1.0])
    assert relative_difference(expected, expected) == 0
    assert relative_difference(100 + torch.tensor([1.0, -1.0]), expected) == pytest.approx(2)
    assert relative_difference(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 5])) == 0.25


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_passes_the_check():
    assert all(correct(check_device(torch.device("cuda"), torch.bfloat16)).values())
