import copy
import logging

import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes

from audiocraft.data.conditions import WavCondition
from audiocraft.modules.conditioners import (
    BatchGenerators,
    MertFeatures,
    StyleConditioner,
    merge_excerpt_masks,
)
from audiocraft.quantization.codebook import HostCopy
from tests.solvers.test_no_synchronisation import Reads

from .stubs import SAMPLE_RATE, StubFeatureExtractor, style_conditioner


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rng(seed=0):
    """Random generators of a training batch; only used as such in training mode."""
    return BatchGenerators(generator(seed), [generator(100 * seed + i) for i in range(8)])


def clips(*seconds, start=None, total=None, sample_rate=SAMPLE_RATE):
    """Noise of the given durations, padded to the longest; zero seconds is a null clip."""
    lengths = torch.tensor([int(s * SAMPLE_RATE) for s in seconds])
    total = max(1, int(lengths.max())) if total is None else total
    wav = torch.randn(len(seconds), 1, total, generator=generator(7)) + 3
    wav = wav * (torch.arange(total) < lengths[:, None, None])
    starts = [None] * len(seconds) if start is None else start
    return WavCondition(wav, lengths, [sample_rate] * len(seconds), start=starts)


def statistics(style):
    return {k: v.clone() for k, v in style.state_dict().items() if "rvq" in k or "batch_norm" in k}


def encode(style, values, generators=None):
    return style(style.prepare(values, generators))


# Excerpts


def test_evaluation_selects_the_middle_of_the_valid_audio():
    style = style_conditioner().eval()
    values = clips(1.0, 0.5)
    excerpts = style.prepare(values).excerpts
    assert torch.equal(excerpts[0], values.wav[0, 0, 280:520])
    assert torch.equal(excerpts[1], values.wav[1, 0, 80:320])


@pytest.mark.parametrize("seed", range(5))
def test_rate_of_the_clips_does_not_change_the_excerpts(seed):
    """Token data sets store clips at a lower rate; the drawn excerpts must not depend on it."""
    rate = 3 * SAMPLE_RATE
    style = style_conditioner(sample_rate=rate, ds_rate_compression=48).train()
    seconds = (torch.arange(6 * rate) / rate).expand(3, 1, -1)  # a sample says when it is
    own = WavCondition(seconds, torch.tensor([6 * rate, 0, 5 * rate]), [rate] * 3, start=[None] * 3)
    slower = own._replace(
        wav=seconds[..., ::3], length=own.length // 3, sample_rate=[SAMPLE_RATE] * 3
    )
    one, other = (style.prepare(values, rng(seed)) for values in (own, slower))
    assert torch.equal(one.excerpt_mask, other.excerpt_mask)
    assert one.lengths.tolist() == other.lengths.tolist()
    assert (one.num_codebooks, one.codebook_seed) == (other.num_codebooks, other.codebook_seed)
    assert (one.excerpts[:, 0] - other.excerpts[:, 0]).abs().max() < 1 / SAMPLE_RATE
    assert one.excerpts.shape[1] // 3 == other.excerpts.shape[1]
    assert style(one).embed.shape == style(other).embed.shape


@pytest.mark.parametrize("rates", [[999, 999], [800, 1600]])
def test_clips_at_any_other_rate_raise(rates):
    style = style_conditioner(sample_rate=2 * SAMPLE_RATE)
    with pytest.raises(
        ValueError, match=r"all clips at 1600, or all at its feature extractor's 800"
    ):
        style.prepare(clips(1.0, 1.0)._replace(sample_rate=rates), rng())


def test_excerpts_contain_no_padding():
    style = style_conditioner().train()
    for seed in range(50):
        assert style.prepare(clips(0.5, 1.0, total=4000), rng(seed)).excerpts.abs().min() > 0


def test_excerpt_start_is_drawn_per_clip():
    excerpt_mask = style_conditioner().prepare(clips(9.0, 9.0, 9.0), rng()).excerpt_mask
    assert len({tuple(row.tolist()) for row in excerpt_mask}) == 3


def test_one_length_is_drawn_per_training_batch():
    style = style_conditioner().train()
    lengths = {style.prepare(clips(1.0, 1.0), rng(i)).excerpts.shape[1] for i in range(60)}
    assert 0.15 * SAMPLE_RATE <= min(lengths) < 0.2 * SAMPLE_RATE
    assert 0.4 * SAMPLE_RATE < max(lengths) <= 0.45 * SAMPLE_RATE


def test_training_length_does_not_affect_evaluation():
    style = style_conditioner().train()
    encode(style, clips(1.0, 1.0), rng())
    assert style.eval().prepare(clips(1.0, 1.0), rng()).excerpts.shape[1] == 0.3 * SAMPLE_RATE


def test_start_can_be_requested():
    values = clips(1.0, start=[0.25])
    excerpts = style_conditioner().eval().prepare(values, rng()).excerpts
    assert torch.equal(excerpts[0], values.wav[0, 0, 200:440])


def test_start_too_late_raises():
    with pytest.raises(ValueError, match=r"of 0\.3 s that starts at 0\.9 s does .* of 1 s"):
        style_conditioner().eval().prepare(clips(1.0, start=[0.9]))


def test_excerpt_longer_than_the_audio_raises_with_both_lengths():
    with pytest.raises(ValueError, match=r"of 0\.3 s does not fit in a clip of 0\.2 s"):
        style_conditioner().eval().prepare(clips(1.0, 0.2))


def test_training_excerpts_are_reduced_to_the_shortest_clip():
    style = style_conditioner().train()
    for seed in range(20):
        num_samples = style.prepare(clips(1.0, 0.2), rng(seed)).excerpts.shape[1]
        assert 0.15 * SAMPLE_RATE <= num_samples <= 0.2 * SAMPLE_RATE


def test_training_clip_shorter_than_one_frame_raises():
    with pytest.raises(ValueError, match=r"training clip of 0.005 s"):
        style_conditioner().train().prepare(clips(1.0, 0.005), rng())


def test_middle_can_be_fixed():
    style = style_conditioner(use_middle_of_segment=True).eval()
    assert torch.equal(
        style.prepare(clips(1.0), rng()).excerpts, style.prepare(clips(1.0)).excerpts
    )


def test_excerpt_does_not_depend_on_the_rest_of_the_batch():
    style = style_conditioner().eval()
    alone = style.prepare(clips(1.0, 1.0)._replace(), [generator(1), generator(2)]).excerpts[1]
    other = style.prepare(clips(1.0, 1.0), [generator(9), generator(2)]).excerpts[1]
    assert torch.equal(alone, other)


def test_same_generators_give_the_same_condition():
    for training in (True, False):
        one, other = (style_conditioner().train(training) for _ in range(2))
        first, second = encode(one, clips(1.0, 1.0), rng()), encode(other, clips(1.0, 1.0), rng())
        assert torch.equal(first.embed, second.embed)
        assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers()))


def test_clips_at_another_rate_raise():
    with pytest.raises(ValueError, match="44100"):
        style_conditioner().prepare(clips(1.0, sample_rate=44100))


# Excerpt masks


def test_excerpt_mask_covers_the_frames_of_the_excerpt():
    # Quirk of released models: `length // hop` frames from `start // hop`, hop is 16 here.
    style = style_conditioner().eval()
    condition = encode(style, clips(1.0, 0.0, start=[0.26, None]))
    excerpt_mask = merge_excerpt_masks({"self_wav": condition}, 50)
    assert excerpt_mask[0].nonzero().flatten().tolist() == list(range(13, 28))
    assert not excerpt_mask[1].any()


def test_excerpt_mask_can_be_left_out():
    assert encode(style_conditioner(compute_mask=False).eval(), clips(1.0)).excerpt_mask is None


# Null clips


def test_null_clip_gives_zero_vectors():
    condition = encode(style_conditioner().eval(), clips(1.0, 0.0))
    assert condition.mask.tolist() == [[True] * 6, [False] * 6]
    assert condition.embed[0].any()
    assert not condition.embed[1].any()


def test_batch_of_null_clips_is_one_zero_step_and_loads_nothing():
    def load():
        raise AssertionError("loaded")

    style = StyleConditioner(MertFeatures(load), 6, transformer_scale="xsmall", bins=8).eval()
    condition = encode(style, clips(0.0, 0.0))
    assert condition.embed.shape == (2, 1, 6)
    assert not condition.embed.any()
    assert not condition.mask.any()
    assert condition.excerpt_mask is None


def test_null_clips_update_no_statistics():
    # Ten such batches would halve the variance; a first one would collapse the k-means init.
    style = style_conditioner().train()
    before = statistics(style)
    encode(style, clips(0.0, 0.0), rng())
    after = statistics(style)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_null_clip_in_a_batch_does_not_change_statistics():
    alone, together = style_conditioner().train(), style_conditioner().train()
    prepared = together.prepare(clips(1.0, 1.0, 0.0), rng())
    together(prepared)
    alone(prepared._replace(lengths=prepared.lengths[:2], excerpt_mask=prepared.excerpt_mask[:2]))
    ours, theirs = statistics(alone), statistics(together)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("seconds", [(0.0, 0.0), (1.0, 0.0), (1.0,)])
def test_every_weight_gets_a_gradient_even_without_any_clip(seconds):
    # Otherwise a distributed run blocks when some processes have dropped their clips.
    style = style_conditioner().train()
    encode(style, clips(*seconds), rng()).embed.sum().backward()
    assert all(weight.grad is not None for weight in style.parameters())


def test_null_first_batch_does_not_initialize_the_codebooks():
    style = style_conditioner().train()
    encode(style, clips(0.0), rng())
    assert not any(book.inited for book in style.rvq.codebooks)
    encode(style, clips(1.0, 1.0), rng())
    assert len(style.rvq.codebooks[0].embed.unique(dim=0)) == 8


# The bottleneck


def test_evaluation_updates_nothing():
    style = style_conditioner().eval()
    before = statistics(style)
    encode(style, clips(1.0, 1.0), rng())
    assert all(torch.equal(before[key], after) for key, after in statistics(style).items())


@pytest.mark.parametrize("generators", [None, generator(), [generator(0), generator(1)]])
def test_training_mode_alone_updates_nothing_and_draws_as_evaluation_does(generators):
    style = style_conditioner().train()
    style.rvq.initialize(torch.randn(1, style.dim, 500, generator=generator()))
    before = {key: value.clone() for key, value in style.state_dict().items()}
    values = clips(1.0, 1.0, start=[0.1, 0.2])
    condition = encode(style, values, generators)
    assert all(torch.equal(before[key], value) for key, value in style.state_dict().items())
    assert style.training
    assert torch.equal(condition.embed, encode(style.eval(), values).embed)


def test_frozen_statistics_are_not_updated_by_training():
    style = style_conditioner().train()
    encode(style, clips(1.0, 1.0), rng())
    style.freeze_statistics()
    before = statistics(style)
    encode(style, clips(1.0, 1.0), rng(1))
    assert all(torch.equal(before[key], value) for key, value in statistics(style).items())


def test_number_of_codebooks_is_drawn_per_training_batch():
    style = style_conditioner().train()
    drawn = {style.prepare(clips(1.0), rng(i)).num_codebooks for i in range(60)}
    assert drawn == {1, 2, 3, 4}
    assert style.eval().prepare(clips(1.0), rng()).num_codebooks == 2


def test_without_quantizer_dropout_training_uses_all_codebooks():
    style = style_conditioner(q_dropout=False).train()
    assert {style.prepare(clips(1.0), rng(i)).num_codebooks for i in range(10)} == {4}


def test_gradients_pass_through_the_bottleneck():
    style = style_conditioner().train()
    encode(style, clips(1.0, 1.0), rng()).embed.square().sum().backward()
    assert style.embed.weight.grad.any()


def test_one_codebook_gives_at_most_cardinality_distinct_vectors():
    style = style_conditioner(bins=3).train()
    for seed in range(4):
        encode(style, clips(1.0, 1.0, 1.0), rng(seed))
    style.eval().set_params(eval_q=1)
    vectors = encode(style, clips(1.0, 1.0, 1.0, 1.0)).embed.flatten(0, 1)
    assert len(vectors.mul(1e4).round().unique(dim=0)) <= 3


@pytest.mark.parametrize(("seconds", "steps"), [(1.5, 8), (3.0, 15), (4.5, 23)])
def test_released_excerpts_give_eight_to_twenty_three_steps(seconds, steps):
    feature_extractor = MertFeatures(torch.nn.Identity())
    assert -(-feature_extractor.num_frames(int(seconds * 24_000)) // 15) == steps


# Settings


def test_feature_extractor_is_not_part_of_the_weights():
    names = {key.split(".")[0] for key in style_conditioner().state_dict()}
    assert names == {"embed", "transformer", "batch_norm", "rvq", "output_proj"}


def test_copies_share_the_feature_extractor():
    style = StyleConditioner(MertFeatures(torch.nn.Identity()), 6, transformer_scale="none", bins=8)
    copied = copy.deepcopy(style)
    assert copied.feature_extractor.network.module is style.feature_extractor.network.module


def test_fewer_frames_can_be_kept():
    style = style_conditioner().eval()
    style.set_params(ds_factor=10)
    assert encode(style, clips(1.0)).embed.shape[1] == 3


def test_parameters_not_given_are_unchanged():
    style = style_conditioner()
    style.set_params(excerpt_length=0.2)
    assert (style.eval_q, style.excerpt_length, style.ds_factor) == (2, 0.2, 5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"eval_q": 0}, "Choose 1 to 4"),
        ({"eval_q": 5}, "Choose 1 to 4"),
        ({"excerpt_length": 0.0}, "excerpt_length is 0.0"),
        ({"ds_factor": 0}, "at least 1"),
        ({"encodec_n_q": 2}, "not a codec"),
        ({"eval_q": 1, "ds_factor": 0}, "at least 1"),
    ],
)
def test_value_out_of_range_raises_and_changes_nothing(params, message):
    style = style_conditioner()
    with pytest.raises(ValueError, match=message):
        style.set_params(**params)
    assert (style.eval_q, style.excerpt_length, style.ds_factor) == (2, 0.3, 5)


def test_unusual_excerpt_length_logs_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        style_conditioner().set_params(excerpt_length=0.6)
    assert "0.15 to 0.45 s" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transformer_scale": "huge"}, "none, xsmall, default, large"),
        ({"varying_lengths": (2.0, 1.0)}, "shortest and the longest"),
        ({"eval_q": 9}, "Choose 1 to 4"),
    ],
)
def test_invalid_setting_raises(options, message):
    with pytest.raises(ValueError, match=message):
        style_conditioner(**options)


def test_half_precision_is_supported():
    style = style_conditioner().eval().half()
    assert encode(style, clips(1.0)).embed.dtype == torch.float16


def test_clips_at_the_rate_of_the_model_are_resampled_for_the_feature_extractor():
    feature_extractor = StubFeatureExtractor()
    feature_extractor.sample_rate = SAMPLE_RATE // 2
    encode(style_conditioner(feature_extractor=feature_extractor).eval(), clips(1.0))
    assert feature_extractor.inputs[0].shape == (1, 120)


@pytest.mark.parametrize("middle", [True, False])
@pytest.mark.parametrize("start", [None, 0.1])
def test_excerpt_is_never_shortened_silently(middle, start):
    style = style_conditioner(use_middle_of_segment=middle).eval()
    with pytest.raises(ValueError, match=r"of 0\.3 s .* clip of 0\.2 s"):
        style.prepare(clips(0.2, start=[start]))


def test_training_step_reads_no_value_from_the_device(monkeypatch):
    style = style_conditioner().train()
    for seed in range(2):  # the k-means init may synchronize
        encode(style, clips(1.0, 1.0), rng(seed))
    read = HostCopy.read

    def read_host_copy(copy, buffer):  # on a GPU, of a copy on the host
        with _disable_current_modes():
            return read(copy, buffer)

    monkeypatch.setattr(HostCopy, "read", read_host_copy)
    prepared = style.prepare(clips(1.0, 1.0), rng(2))
    with Reads() as reads:
        merge_excerpt_masks({"self_wav": style(prepared)}, 50)
    assert reads.found == []
    assert prepared.update_statistics
