import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiocraft.data import sampler as sampler_module
from audiocraft.data.sampler import SegmentSampler, ShardedSampler
from audiocraft.errors import ManifestError

DURATIONS = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
PLAIN = {"sample_on_duration": False, "sample_on_weight": False}


def make(**kwargs) -> SegmentSampler:
    defaults = {
        "durations": DURATIONS,
        "weights": torch.ones(4, dtype=torch.float64),
        "segment_duration": 2.0,
        "num_samples": 2000,
        "shuffle": True,
    }
    return SegmentSampler(**(defaults | kwargs))


def draws(sampler, epoch=1, count=None):
    count = len(sampler) if count is None else count
    return [sampler.draw(epoch, i, sampler.generator(epoch, i)) for i in range(count)]


@given(epoch=st.integers(0, 1000), index=st.integers(0, 1999), seed=st.integers(0, 99))
def test_a_draw_depends_only_on_seed_epoch_and_index(epoch, index, seed):
    torch.manual_seed(index)
    one, other = (make(shuffle_seed=seed) for _ in range(2))
    torch.rand(7)
    drawn = one.draw(epoch, index, one.generator(epoch, index))
    assert drawn == other.draw(epoch, index, other.generator(epoch, index))


def test_epochs_and_seeds_differ_only_when_shuffled():
    assert draws(make(), 1, 20) != draws(make(), 2, 20)
    assert draws(make(), 1, 20) != draws(make(shuffle_seed=5), 1, 20)
    fixed = make(shuffle=False)
    assert draws(fixed, 1, 20) == draws(fixed, 2, 20)


@given(ratio=st.floats(0, 1), duration=st.floats(0.1, 20))
def test_segments_overlap_their_file_by_the_minimum_ratio(ratio, duration):
    sampler = make(min_segment_ratio=ratio, segment_duration=duration, num_samples=20)
    for file, seek_time in draws(sampler):
        inside = min(duration, float(DURATIONS[file]) - seek_time)
        assert inside >= min(duration * ratio, float(DURATIONS[file])) - 1e-6
        assert 0 <= seek_time < DURATIONS[file]


@pytest.mark.parametrize("on_duration", [True, False])
@pytest.mark.parametrize("on_weight", [True, False])
def test_files_are_drawn_by_their_probabilities(on_duration, on_weight):
    weights = torch.tensor([4.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    sampler = make(weights=weights, sample_on_duration=on_duration, sample_on_weight=on_weight)
    expected = (DURATIONS if on_duration else 1) * (
        weights if on_weight else torch.ones_like(weights)
    )
    files = torch.tensor([file for file, _ in draws(sampler)])
    shares = files.bincount(minlength=4) / len(files)
    torch.testing.assert_close(sampler.probabilities.double(), expected / expected.sum())
    torch.testing.assert_close(shares, sampler.probabilities, atol=0.05, rtol=0)
    assert not on_weight or 2 not in files


def test_probabilities_do_not_depend_on_the_number_of_files(monkeypatch):
    weights = torch.tensor([4.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    few = make(weights=weights)
    monkeypatch.setattr(sampler_module, "MAX_MULTINOMIAL_FILES", 3)
    many = make(weights=weights)
    torch.testing.assert_close(many.probabilities, few.probabilities)
    files = torch.tensor([file for file, _ in draws(many)])
    shares = files.bincount(minlength=4) / len(files)
    torch.testing.assert_close(shares, many.probabilities, atol=0.05, rtol=0)
    assert 2 not in files


def test_a_pickled_sampler_draws_the_same():
    one = make(weights=torch.tensor([4.0, 1.0, 0.0, 1.0]))
    assert draws(pickle.loads(pickle.dumps(one))) == draws(one)


@pytest.mark.parametrize("num_samples", [3, 4, 10])
def test_a_permutation_draws_every_file_before_repeating(num_samples):
    sampler = make(permutation_on_files=True, num_samples=num_samples, **PLAIN)
    files = [file for epoch in range(8) for file, _ in draws(sampler, epoch)]
    for start in range(0, len(files) - 3, 4):
        assert sorted(files[start : start + 4]) == [0, 1, 2, 3]
    assert files[:4] != files[4:8] or files[4:8] != files[8:12]


def test_after_a_failure_another_file_is_drawn():
    sampler = make(permutation_on_files=True, **PLAIN)
    rng = sampler.generator(1, 0)
    first = sampler.draw(1, 0, rng)
    assert {sampler.draw(1, 0, rng, attempt).file for attempt in range(1, 20)} - {first.file}


def test_whole_files_are_read_in_order():
    sampler = make(segment_duration=None)
    assert draws(sampler) == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0)]


MISTAKES = {
    "permutation_on_files": {"permutation_on_files": True},
    "min_segment_ratio": {"min_segment_ratio": 1.5},
    "segment_duration": {"segment_duration": 0.0},
    "num_samples": {"num_samples": 0},
}


@pytest.mark.parametrize("name", MISTAKES)
def test_invalid_settings_are_refused(name):
    with pytest.raises(ValueError, match=name):
        make(**MISTAKES[name])


def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(ManifestError, match="weights in the manifest are 0"):
        make(weights=torch.zeros(4))


# Batches.


@pytest.mark.parametrize("num_samples", [1, 7, 8, 20])
@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("drop_last", [True, False])
def test_processes_get_equal_numbers_of_batches_without_loss(num_samples, world_size, drop_last):
    shards = [
        ShardedSampler(num_samples, 8, rank=rank, world_size=world_size, drop_last=drop_last)
        for rank in range(world_size)
    ]
    indices = [list(shard) for shard in shards]
    assert len({len(shard) for shard in indices}) == 1
    assert all(len(shard) == len(own) for shard, own in zip(shards, indices))
    seen = {index for own in indices for index in own}
    total = num_samples // 8 * 8 if drop_last else num_samples
    assert seen == set(range(total))
    extra = sum(len(own) for own in indices) - total
    assert 0 <= extra < world_size


@given(
    num_samples=st.integers(1, 60),
    batch_size=st.sampled_from([2, 4, 8]),
    drop_last=st.booleans(),
    data=st.data(),
)
def test_an_epoch_can_start_at_any_batch(num_samples, batch_size, drop_last, data):
    for rank in (0, 1):
        sampler = ShardedSampler(
            num_samples, batch_size, rank=rank, world_size=2, drop_last=drop_last
        )
        whole = list(sampler)
        batch = data.draw(st.integers(0, sampler.num_batches))
        sampler.start_at(batch)
        assert len(sampler) == len(whole[batch * batch_size // 2 :])
        assert list(sampler) == whole[batch * batch_size // 2 :]
        assert list(sampler) == whole


def test_a_batch_index_out_of_range_is_refused():
    sampler = ShardedSampler(20, 8)
    with pytest.raises(ValueError, match=r"batch=4 .* 3 batches\. Choose 0 to 3"):
        sampler.start_at(4)
