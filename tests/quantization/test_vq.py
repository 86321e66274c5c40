import math

import pytest
import torch

from audiocraft.quantization import ResidualVectorQuantizer, draw_num_codebooks
from audiocraft.quantization.vq import distance_from_orthogonal


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def rvq():
    torch.manual_seed(0)
    return ResidualVectorQuantizer(dimension=6, n_q=4, bins=16, kmeans_init=False).eval()


@pytest.fixture
def x():
    return torch.randn(2, 6, 30, generator=generator())


def test_state_keys_are_those_of_released_checkpoints(rvq):
    names = ("inited", "cluster_size", "embed", "embed_avg")

    assert set(rvq.state_dict()) == {
        f"vq.layers.{i}._codebook.{name}" for i in range(4) for name in names
    }


def test_forward_equals_decoding_the_codes(rvq, x):
    result = rvq(x, frame_rate=50)

    torch.testing.assert_close(result.codes, rvq.encode(x))
    torch.testing.assert_close(result.x, rvq.decode(result.codes))
    assert result.penalty == 0


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_codebooks_return_the_first_codes(rvq, x, n):
    assert torch.equal(rvq.encode(x, num_codebooks=n), rvq.encode(x)[:, :n])
    assert torch.equal(rvq(x, 50, num_codebooks=n).codes, rvq.encode(x)[:, :n])
    rvq.set_num_codebooks(n)
    assert torch.equal(rvq.encode(x), rvq.encode(x, num_codebooks=n))
    assert (rvq.num_codebooks, rvq.total_codebooks) == (n, 4)


def test_bandwidth_is_the_number_of_bits_per_second(rvq, x):
    result = rvq(x, frame_rate=75, num_codebooks=3)

    assert float(result.bandwidth) == pytest.approx(3 * math.log2(16) * 75 / 1000)


def test_trained_codebooks_each_reduce_the_error(x):
    rvq = ResidualVectorQuantizer(dimension=6, n_q=4, bins=16, decay=0.5)
    for _ in range(20):
        rvq(x, 50, rng=generator())
    rvq.eval()

    errors = [float((rvq.decode(rvq.encode(x, n)) - x).square().mean()) for n in range(1, 5)]

    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]


def test_training_continues_from_explicit_codebooks(x):
    rvq = ResidualVectorQuantizer(dimension=6, n_q=3, bins=16, threshold_ema_dead_code=0)
    rvq.initialize(x, generator())
    started = (rvq(x, 50, rng=generator()).x - x).square().mean()

    for _ in range(5):
        later = (rvq(x, 50, rng=generator()).x - x).square().mean()

    assert all(book.inited for book in rvq.codebooks)
    assert later < 1.05 * started


def test_straight_through_gradients(rvq, x):
    rvq.train()
    rvq.codebooks[0].threshold_ema_dead_code = 0
    weight = torch.randn_like(x)
    x.requires_grad_()

    (rvq(x, 50).x * weight).sum().backward()

    torch.testing.assert_close(x.grad, weight)


def test_commitment_penalty_moves_the_input_towards_the_entries(rvq, x):
    x = x[:, :, :5].clone().requires_grad_()
    rvq.train()
    result = rvq(x, 50, num_codebooks=1)
    result.penalty.backward()

    toward = (result.x - x).detach()
    torch.testing.assert_close(x.grad, -2 * toward / x.numel())


def test_empty_batch_has_no_update_and_zero_penalty(rvq):
    rvq.train()
    before = {name: value.clone() for name, value in rvq.state_dict().items()}

    result = rvq(torch.randn(0, 6, 30), 50, rng=generator())

    assert result.x.shape == (0, 6, 30)
    assert result.codes.shape == (0, 4, 30)
    assert result.penalty == 0
    for name, value in rvq.state_dict().items():
        assert torch.equal(value, before[name])


def test_dropped_codebooks_are_not_updated(rvq, x):
    rvq.train()
    before = {name: value.clone() for name, value in rvq.state_dict().items()}

    rvq(x, 50, num_codebooks=2, rng=generator())

    changed = {int(k.split(".")[2]) for k, v in rvq.state_dict().items() if not v.equal(before[k])}
    assert changed == {0, 1}


def test_half_precision_latent_and_float32_codebook_keep_their_dtypes(rvq, x):
    rvq.train()

    result = rvq(x.bfloat16(), 50, rng=generator())

    assert result.x.dtype == torch.bfloat16
    assert rvq.codebooks[0].embed.dtype == torch.float32


def test_orthogonal_penalty_of_orthogonal_entries_is_zero():
    assert float(distance_from_orthogonal(3 * torch.eye(5))) == pytest.approx(0, abs=1e-6)
    assert float(distance_from_orthogonal(torch.ones(5, 3))) == pytest.approx(1 - 1 / 5)


@pytest.mark.parametrize("options", [{}, {"active_codes_only": True}, {"max_codes": 4}])
def test_orthogonal_penalty_is_added_with_its_weight(x, options):
    penalties = {}
    for weight in (0.0, 1.0, 2.0):
        torch.manual_seed(0)
        rvq = ResidualVectorQuantizer(
            dimension=6,
            n_q=2,
            bins=16,
            kmeans_init=False,
            orthogonal_reg_weight=weight,
            **{f"orthogonal_reg_{name}": value for name, value in options.items()},
        )
        penalties[weight] = rvq(x, 50, rng=None).penalty

    assert penalties[1.0] > penalties[0.0]
    torch.testing.assert_close(
        penalties[2.0] - penalties[0.0], 2 * (penalties[1.0] - penalties[0.0])
    )


def test_dropout_draws_every_number_of_codebooks():
    rng = generator()

    assert {draw_num_codebooks(6, rng) for _ in range(200)} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("n", [0, -1, 5])
def test_unavailable_number_of_codebooks_raises(rvq, x, n):
    for ask in (
        lambda: rvq.set_num_codebooks(n),
        lambda: rvq.encode(x, num_codebooks=n),
        lambda: rvq(x, 50, num_codebooks=n),
    ):
        with pytest.raises(ValueError, match="1 to 4"):
            ask()


@pytest.mark.parametrize("wrong", [{"n_q": 0}, {"kmeans_iters": 0}])
def test_empty_quantizer_raises(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        ResidualVectorQuantizer(**wrong)


def test_latent_of_another_width_raises(rvq):
    with pytest.raises(ValueError, match="6"):
        rvq(torch.randn(2, 5, 30), 50)
    with pytest.raises(ValueError, match="6"):
        rvq.encode(torch.randn(6, 30))


def test_codes_of_another_shape_raise(rvq):
    with pytest.raises(ValueError, match=r"\[B, K, F\]"):
        rvq.decode(torch.zeros(4, 30, dtype=torch.long))
    with pytest.raises(ValueError, match="1 to 4"):
        rvq.decode(torch.zeros(1, 5, 30, dtype=torch.long))
