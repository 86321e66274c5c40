import pytest
import torch

from audiocraft.modules.codebooks_patterns import (
    CoarseFirstPattern,
    DelayedPatternProvider,
    MusicLMPattern,
    ParallelPatternProvider,
    UnrolledPatternProvider,
)

PROVIDERS = [
    DelayedPatternProvider(4),
    DelayedPatternProvider(8, [0, 0, 1, 1, 2, 2, 3, 3]),
    DelayedPatternProvider(4, [3, 0, 2, 0], flatten_first=2, empty_initial=1),
    ParallelPatternProvider(3),
    UnrolledPatternProvider(4),
    UnrolledPatternProvider(4, flattening=[0, 1, 1, 2], delays=[0, 3, 3, 4]),
    UnrolledPatternProvider(3, flattening=[0, 2, 2], delays=[0, 2, 2]),
    UnrolledPatternProvider(3, flattening=[5, 1, 3], delays=[2, 0, 1]),
    CoarseFirstPattern(4, delays=[0, 1, 2]),
    MusicLMPattern(5, group_by=2),
]
every_provider = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda p: type(p).__name__)
every_length = pytest.mark.parametrize("timesteps", [1, 2, 5, 12])


@every_provider
@every_length
def test_revert_inverts_build(provider, timesteps):
    pattern = provider.get_pattern(timesteps)
    codes = torch.randint(10, (2, provider.n_q, timesteps))

    sequence = pattern.build_pattern_sequence(codes, special_token=10)
    back = pattern.revert_pattern_sequence(sequence.values, special_token=-1)

    assert torch.equal(back.values, codes)
    assert back.mask.all()
    assert int(sequence.mask.sum()) == provider.n_q * timesteps
    assert torch.equal(sequence.values[:, ~sequence.mask].unique(), torch.tensor([10]))


@every_provider
@every_length
def test_layout_contains_every_code_once(provider, timesteps):
    pattern = provider.get_pattern(timesteps)

    coords = [coord for step in pattern.layout for coord in step]

    assert len(coords) == len(set(coords))
    real = {(t, q) for t in range(timesteps) for q in range(provider.n_q)}
    assert real == {coord for coord in coords if coord.t < timesteps}


@every_provider
def test_frames_of_a_codebook_are_in_order(provider):
    steps = provider.get_pattern(9).code_steps

    assert (steps.diff(dim=1) > 0).all()


@every_provider
def test_logits_of_a_step_predict_the_next_step(provider):
    pattern = provider.get_pattern(6)
    codes = torch.randint(10, (2, provider.n_q, 6))
    sequence = pattern.build_pattern_sequence(codes, special_token=10).values
    perfect = torch.nn.functional.one_hot(sequence.roll(-1, dims=2), 11).float()

    logits, _, mask = pattern.revert_pattern_logits(perfect, float("nan"))

    assert mask.all()
    assert torch.equal(logits.argmax(dim=-1), codes)


@every_provider
def test_invalid_steps_are_masked(provider):
    pattern = provider.get_pattern(6)
    codes = torch.randint(10, (1, provider.n_q, 6))

    sequence = pattern.build_pattern_sequence(codes, 10, keep_only_valid_steps=True).values
    back = pattern.revert_pattern_sequence(sequence, special_token=-1)

    assert sequence.shape[2] == pattern.num_valid_steps
    assert torch.equal(back.values[0][back.mask], codes[0][back.mask])
    assert (back.values[0][~back.mask] == -1).all()


def test_delays_move_codebooks_to_the_right():
    codes = torch.tensor([[[1, 2, 3], [4, 5, 6]]])

    sequence = DelayedPatternProvider(2).get_pattern(3).build_pattern_sequence(codes, 0).values

    assert sequence.tolist() == [[[0, 1, 2, 3, 0], [0, 0, 4, 5, 6]]]


def test_first_step_of_a_frame():
    pattern = UnrolledPatternProvider(4).get_pattern(3)

    assert [pattern.get_first_step_with_timesteps(t) for t in (0, 1, 2, 3)] == [1, 5, 9, None]


def test_patterns_are_cached_per_length():
    provider = DelayedPatternProvider(4)

    assert provider.get_pattern(7) is provider.get_pattern(7)


def test_codes_of_another_length_raise():
    pattern = DelayedPatternProvider(4).get_pattern(7)

    with pytest.raises(ValueError, match=r"4 codebooks and 7 frames .* \[1, 4, 8\]"):
        pattern.build_pattern_sequence(torch.zeros(1, 4, 8, dtype=torch.long), 0)
    with pytest.raises(ValueError, match="20 steps but its pattern only 11"):
        pattern.revert_pattern_sequence(torch.zeros(1, 4, 20, dtype=torch.long), 0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DelayedPatternProvider(4, [0, 1]), r"delays is \[0, 1\]. Give 4 numbers"),
        (lambda: DelayedPatternProvider(2, [0, -1]), "at least 0"),
        (lambda: CoarseFirstPattern(4, [0, 1, 2, 3]), "Give 3 numbers"),
        (lambda: UnrolledPatternProvider(2, [0, 0], [0, 1]), "flattening is"),
        (lambda: MusicLMPattern(4, group_by=0), "group_by is 0"),
        (lambda: ParallelPatternProvider(0), "n_q is 0"),
        (lambda: DelayedPatternProvider(4).get_pattern(-1), "timesteps is -1"),
    ],
)
def test_invalid_argument_raises(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@every_provider
def test_no_frames_have_the_initial_step_only(provider):
    pattern = provider.get_pattern(0)
    assert pattern.layout == pattern.valid_layout == [[]]
    assert (pattern.num_steps, pattern.num_sequence_steps, pattern.max_delay) == (1, 0, 0)
    codes = torch.zeros(2, provider.n_q, 0, dtype=torch.long)
    sequence = pattern.build_pattern_sequence(codes, 10)
    assert sequence.values.tolist() == [[[10]] * provider.n_q] * 2
    assert pattern.revert_pattern_sequence(sequence.values, -1).values.shape == codes.shape


@every_provider
def test_valid_layout_leaves_out_the_last_steps(provider):
    pattern = provider.get_pattern(6)
    assert pattern.n_q == provider.n_q
    assert pattern.valid_layout == pattern.layout[: len(pattern.layout) - pattern.max_delay]
    assert pattern.num_sequence_steps == len(pattern.layout) - 1


def test_virtual_steps_exclude_delays():
    provider = UnrolledPatternProvider(4, flattening=[0, 1, 1, 2])
    assert provider.num_virtual_steps(5) == 5 * 3 + 1 == provider.get_pattern(5).num_steps


def test_inner_step_that_no_codebook_uses_is_an_empty_step_of_every_frame():
    provider = UnrolledPatternProvider(3, flattening=[0, 2, 2], delays=[0, 2, 2])
    layout = [[tuple(coord) for coord in step] for step in provider.get_pattern(2).layout]
    assert layout == [
        [],
        [],
        [(0, 0)],
        [],
        [(1, 0)],
        [],
        [(0, 1), (0, 2)],
        [(2, 0)],
        [],
        [(1, 1), (1, 2)],
        [(3, 0)],
    ]
    lengths = {timesteps: provider.get_pattern(timesteps).num_steps for timesteps in (5, 13)}
    assert lengths == {5: 20, 13: 44}


def unrolled(flattening, delays, timesteps):
    """Layout by definition: steps sorted by time, empty ones first, then frame and codebook."""
    n_q, last = len(flattening), timesteps + max(delays) - 1
    steps = []
    for inner in range(max(flattening) + 1):
        codebooks = [q for q in range(n_q) if flattening[q] == inner]
        for t in range(last + 1):
            time = t + (delays[codebooks[0]] if codebooks else 0)
            if time <= last:
                steps.append((time, [(t, q) for q in codebooks]))
    return [[], *(codes for _, codes in sorted(steps))]


@pytest.mark.parametrize("timesteps", [1, 2, 7])
@pytest.mark.parametrize(
    ("flattening", "delays"),
    [
        ([0, 2, 2], [0, 2, 2]),
        ([1, 0], [0, 0]),
        ([3, 3, 1, 0], [1, 1, 0, 4]),
        ([2, 0, 5, 2], [0, 3, 1, 0]),
    ],
)
def test_unrolled_layout_follows_its_definition(flattening, delays, timesteps):
    provider = UnrolledPatternProvider(len(flattening), flattening=flattening, delays=delays)
    layout = provider.get_pattern(timesteps).layout
    expected = unrolled(flattening, delays, timesteps)
    assert [[tuple(coord) for coord in step] for step in layout] == expected
