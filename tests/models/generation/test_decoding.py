import pytest
import torch

from audiocraft.models.generation.decoding import generate_tokens
from audiocraft.models.generation.guidance import Guidance
from audiocraft.modules.codebooks_patterns import (
    CoarseFirstPattern,
    DelayedPatternProvider,
    ParallelPatternProvider,
    UnrolledPatternProvider,
)
from audiocraft.modules.conditioners.base import null_condition
from audiocraft.modules.sampling import Sampling

from ..tiny_lm import CARD, CODEBOOKS, STYLE_IN_FRONT, TEXT_BESIDE, build, take, text_and_style

GREEDY = Sampling(temperature=0)
GUIDANCES = [Guidance(cfg_coef=1.0), Guidance(), Guidance(cfg_coef_beta=5.0)]


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def text_only(batch_size):
    return {"description": text_and_style(batch_size)["description"]}


@torch.no_grad()
def greedy_without_cache(lm, conditions, guidance, num_frames):
    """Reference decoding without a cache: the whole sequence is computed at every step."""
    pattern = lm.pattern_provider.get_pattern(num_frames)
    batch_size = len(next(iter(conditions.values())).embed)
    codes = torch.zeros(batch_size, CODEBOOKS, num_frames, dtype=torch.long)
    sequence, _, mask = pattern.build_pattern_sequence(codes, lm.special_token_id)
    null = {name: null_condition(c) for name, c in conditions.items()}
    style = conditions | {"description": null["description"]}
    for step in range(1, pattern.num_steps):
        c, s, u = (lm(sequence[..., :step], x)[:, :, -1] for x in (conditions, style, null))
        beta = guidance.cfg_coef_beta or 1.0
        guided = u + guidance.cfg_coef * (s + beta * (c - s) - u)
        sequence[..., step] = sequence[..., step].where(~mask[:, step], guided.argmax(dim=-1))
    return pattern.revert_pattern_sequence(sequence, -1).values


@pytest.mark.parametrize("guidance", GUIDANCES, ids=str)
@pytest.mark.parametrize(
    "provider",
    [
        DelayedPatternProvider(CODEBOOKS),
        UnrolledPatternProvider(CODEBOOKS),
        ParallelPatternProvider(CODEBOOKS),
        CoarseFirstPattern(CODEBOOKS, [0, 1]),
    ],
    ids=lambda provider: type(provider).__name__,
)
def test_cached_greedy_decoding_equals_uncached_decoding(guidance, provider):
    lm, conditions = build(provider=provider), text_and_style(2)

    codes = generate_tokens(lm, conditions, max_gen_len=7, sampling=GREEDY, guidance=guidance)

    assert torch.equal(codes, greedy_without_cache(lm, conditions, guidance, 7))


def test_cross_attention_text_gives_equal_codes_in_one_pass_or_two():
    lm = build(TEXT_BESIDE)

    one, two = (
        generate_tokens(
            lm,
            text_only(2),
            max_gen_len=8,
            generators=generators(1, 2),
            guidance=Guidance(two_step=two_step),
        )
        for two_step in (False, True)
    )

    assert torch.equal(one, two)


@pytest.mark.parametrize("fuse2cond", [STYLE_IN_FRONT, TEXT_BESIDE], ids=["front", "beside"])
@pytest.mark.parametrize("guidance", GUIDANCES, ids=str)
def test_codes_of_an_item_do_not_depend_on_the_batch(fuse2cond, guidance):
    lm = build(fuse2cond)
    conditions = text_and_style(3) if fuse2cond == STYLE_IN_FRONT else text_only(3)

    together = generate_tokens(
        lm, conditions, max_gen_len=9, guidance=guidance, generators=generators(5, 6, 7)
    )
    for item, seed in enumerate((5, 6, 7)):
        alone = generate_tokens(
            lm,
            take(conditions, item),
            max_gen_len=9,
            guidance=guidance,
            generators=generators(seed),
        )
        assert torch.equal(together[item], alone[0])


def test_codes_depend_on_the_seeds_only():
    lm = build()

    first, again, other = (
        generate_tokens(lm, num_samples=1, max_gen_len=12, generators=generators(seed))
        for seed in (1, 1, 2)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_prompt_is_kept_and_changes_the_continuation():
    lm, conditions = build(), text_and_style(2)
    options = {"max_gen_len": 10, "sampling": GREEDY}
    free = generate_tokens(lm, conditions, **options)
    prompt = torch.randint(CARD, (2, CODEBOOKS, 4))

    continued = generate_tokens(lm, conditions, prompt=prompt, **options)
    removed = generate_tokens(lm, conditions, prompt=prompt, remove_prompts=True, **options)

    assert torch.equal(continued[..., :4], prompt)
    assert torch.equal(removed, continued[..., 4:])
    assert not torch.equal(continued[..., 4:], free[..., 4:])


@pytest.mark.parametrize("fuse2cond", [STYLE_IN_FRONT, TEXT_BESIDE], ids=["front", "beside"])
def test_continuing_a_greedy_prompt_equals_uninterrupted_decoding(fuse2cond):
    lm = build(fuse2cond)
    conditions = text_and_style(2) if fuse2cond == STYLE_IN_FRONT else text_only(2)
    whole = generate_tokens(lm, conditions, max_gen_len=10, sampling=GREEDY)

    continued = generate_tokens(
        lm, conditions, max_gen_len=10, sampling=GREEDY, prompt=whole[..., :6]
    )

    assert torch.equal(continued, whole)


def test_special_tokens_are_never_returned():
    codes = generate_tokens(
        build(), num_samples=4, max_gen_len=9, sampling=Sampling(temperature=100.0, top_k=0)
    )

    assert codes.min() >= 0
    assert codes.max() < CARD


def test_progress_callback_counts_every_step():
    seen = []

    generate_tokens(
        build(),
        num_samples=1,
        max_gen_len=6,
        prompt=torch.zeros(1, CODEBOOKS, 2, dtype=torch.long),
        on_step=lambda done, total: seen.append((done, total)),
    )

    assert seen == [(i, 6) for i in range(1, 7)]  # 4 frames are missing, 2 codebooks are late


def test_every_step_is_computed_once():
    lm, read = build(), []
    lm.transformer.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape[1]))

    generate_tokens(lm, text_and_style(2), max_gen_len=5, sampling=GREEDY)

    assert read == [9 + 1] + [1] * 6  # the prefix is computed once


def test_cross_attention_source_is_projected_once():
    lm, given = build(TEXT_BESIDE), []
    attention = lm.transformer.layers[0].cross_attention
    inner = attention.cross
    attention.cross = lambda x, source, cache: given.append(source) or inner(x, source, cache)

    generate_tokens(lm, text_only(1), max_gen_len=5, sampling=GREEDY)

    assert given[0] is not None
    assert all(source is None for source in given[1:])


def test_generation_does_not_change_the_model():
    lm = build()
    before = {key: value.clone() for key, value in lm.state_dict().items()}

    generate_tokens(lm, text_and_style(1), max_gen_len=5)

    for key, value in lm.state_dict().items():
        assert torch.equal(value, before[key])
    assert not any(parameter.grad is not None for parameter in lm.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "num_samples"),
        ({"num_samples": 3, "conditions": text_and_style(2)}, "num_samples"),
        ({"prompt": torch.zeros(1, CODEBOOKS, 6, dtype=torch.long)}, "max_gen_len=6"),
        ({"prompt": torch.zeros(1, 5, 2, dtype=torch.long)}, r"\[1, 5, 2\].*3"),
        ({"prompt": torch.full((1, CODEBOOKS, 2), CARD)}, "0 to 11"),
        ({"num_samples": 2, "generators": generators(1)}, "1 generators.* 2"),
    ],
)
def test_invalid_arguments_raise(options, message):
    with pytest.raises(ValueError, match=message):
        generate_tokens(build(), max_gen_len=6, **options)


def test_pattern_without_initial_step_raises():
    lm = build(provider=DelayedPatternProvider(CODEBOOKS, empty_initial=-1))

    with pytest.raises(ValueError, match="empty_initial"):
        generate_tokens(lm, num_samples=1, max_gen_len=6)
