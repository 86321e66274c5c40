import pytest
import torch

from audiocraft.modules.sampling import Sampling, draw_uniform, filtered_probs, pick, sample


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_zero_temperature_is_argmax():
    logits = torch.randn(2, 4, 9)

    tokens = sample(logits, Sampling(temperature=0))

    torch.testing.assert_close(tokens, logits.argmax(dim=-1))


def test_top_k_of_one_is_argmax():
    logits = torch.randn(2, 4, 9)

    assert torch.equal(sample(logits, Sampling(top_k=1)), logits.argmax(dim=-1))


def test_tokens_of_an_item_do_not_depend_on_the_batch():
    logits = torch.randn(3, 4, 50)

    together = sample(logits, Sampling(), generators(5, 6, 7))
    alone = sample(logits[1:2], Sampling(), generators(6))

    assert torch.equal(together[1:2], alone)


def test_tokens_are_drawn_with_their_probability():
    logits = torch.tensor([0.5, 0.2, 0.2, 0.1]).log().expand(20_000, -1)

    tokens = sample(logits, Sampling(top_k=0), generators(*range(20_000)))

    counts = torch.bincount(tokens, minlength=4) / 20_000
    torch.testing.assert_close(counts, torch.tensor([0.5, 0.2, 0.2, 0.1]), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "sampling", [Sampling(top_k=3), Sampling(top_p=0.6), Sampling(top_k=0, temperature=0.1)]
)
@pytest.mark.parametrize("value", [1.0, 2**-24])
def test_filtered_tokens_are_never_drawn(sampling, value):
    logits = torch.randn(200, 20) * 5

    tokens = pick(logits, sampling, torch.full((200,), value))

    assert (filtered_probs(logits, sampling).gather(1, tokens[:, None]) > 0).all()


def test_distribution_sums_to_one():
    for sampling in (Sampling(top_k=5), Sampling(top_p=0.3), Sampling(top_k=0), Sampling()):
        probs = filtered_probs(torch.randn(4, 30), sampling)
        torch.testing.assert_close(probs.sum(dim=-1), torch.ones(4))


def test_top_k_keeps_the_most_likely_and_their_order():
    logits = torch.randn(4, 30)

    probs = filtered_probs(logits, Sampling(top_k=5))

    assert ((probs > 0).sum(dim=-1) == 5).all()
    assert torch.equal(probs.topk(5).indices, logits.topk(5).indices)


def test_top_p_keeps_the_fewest_tokens_that_reach_it():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()

    def kept(top_p):
        return int((filtered_probs(logits, Sampling(top_p=top_p)) > 0).sum())

    assert [kept(0.4), kept(0.6), kept(0.9), kept(1.0)] == [1, 2, 3, 4]


def test_top_p_takes_precedence_over_top_k():
    logits = torch.randn(4, 30)

    both = filtered_probs(logits, Sampling(top_k=1, top_p=0.9))

    assert torch.equal(both, filtered_probs(logits, Sampling(top_k=0, top_p=0.9)))


def test_half_precision_is_sampled_in_float32():
    logits = torch.randn(4, 2048).half()

    assert filtered_probs(logits, Sampling()).dtype == torch.float32


def test_drawn_numbers_are_above_0_and_at_most_1():
    draws = draw_uniform(2, (5000,), generators(1, 2))

    assert draws.min() > 0
    assert draws.max() <= 1


def test_missing_generator_raises():
    with pytest.raises(ValueError, match="There are 1 generators for 2 items"):
        draw_uniform(2, (3,), generators(1))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"temperature": -1.0}, "temperature must be at least 0 but is -1.0"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"top_p": 1.5}, "top_p must lie between 0"),
    ],
)
def test_invalid_value_raises(option, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**option)
