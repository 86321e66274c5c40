import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiocraft.data.prepare.duplicates import DuplicateGroup
from audiocraft.data.prepare.splits import Group, assign_splits, join_groups
from audiocraft.errors import ManifestError

SHARES = {"valid": 0.1, "evaluate": 0.05, "generate": 0.05}
GROUPS = st.lists(st.floats(0.1, 1000), min_size=4, max_size=60).map(
    lambda sizes: [Group(f"artist {number}", size) for number, size in enumerate(sizes)]
)


@given(groups=GROUPS, seed=st.integers(0, 5))
def test_every_group_is_in_one_split_and_no_split_is_empty(groups, seed):
    splits = assign_splits(groups, SHARES, "train", seed)
    assert splits.keys() == {group.name for group in groups}
    assert set(splits.values()) == {"train", *SHARES}


@given(groups=GROUPS, seed=st.integers(0, 5))
def test_splits_exceed_their_share_only_with_a_single_group(groups, seed):
    splits = assign_splits(groups, SHARES, "train", seed)
    whole = sum(group.size for group in groups)
    for split, share in SHARES.items():
        sizes = [group.size for group in groups if splits[group.name] == split]
        assert len(sizes) == 1 or sum(sizes) <= share * whole * (1 + 1e-9)


@given(groups=GROUPS, order=st.randoms(use_true_random=False))
def test_splits_do_not_depend_on_file_order(groups, order):
    shuffled = list(groups)
    order.shuffle(shuffled)
    assert assign_splits(shuffled, SHARES, "train", 0) == assign_splits(groups, SHARES, "train", 0)


def test_shares_are_met_with_small_groups():
    groups = [Group(str(number), 10 + number % 7) for number in range(1000)]
    splits = assign_splits(groups, SHARES, "train", 0)
    whole = sum(group.size for group in groups)
    for split, share in SHARES.items():
        size = sum(group.size for group in groups if splits[group.name] == split)
        assert size / whole == pytest.approx(share, abs=0.002)


def test_splits_depend_on_the_seed():
    groups = [Group(str(number), 1.0) for number in range(100)]
    draws = [assign_splits(groups, SHARES, "train", seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_a_share_of_zero_creates_no_split():
    groups = [Group("a", 1.0), Group("b", 1.0)]
    splits = assign_splits(groups, {"valid": 0.5, "evaluate": 0.0}, "train", 0)
    assert sorted(splits.values()) == ["train", "valid"]
    assert assign_splits(groups, {}, "train", 0) == {"a": "train", "b": "train"}


@pytest.mark.parametrize("shares", [{"valid": 1.0}, {"valid": 0.6, "evaluate": 0.4}, {"valid": -1}])
def test_shares_that_leave_nothing_are_refused(shares):
    with pytest.raises(ManifestError, match="sum to less than 1"):
        assign_splits([Group(str(i), 1.0) for i in range(9)], shares, "train", 0)


def test_too_few_groups_are_refused():
    with pytest.raises(ManifestError, match=r"1 group cannot .* 4 splits"):
        assign_splits([Group("a", 1.0)], SHARES, "train", 0)


def test_duplicate_files_merge_their_groups():
    names = ["ann", "bob", "ann", "cem", "dan", "eve"]
    duplicates = [DuplicateGroup([1, 3], exact=True), DuplicateGroup([2, 4], exact=False)]
    assert join_groups(names, duplicates) == ["ann", "bob", "ann", "bob", "ann", "eve"]
    assert join_groups(names, []) == names
