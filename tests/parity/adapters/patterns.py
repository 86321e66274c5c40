"""Replays codebook patterns: layout, sequence, and the inverse for codes and logits."""

from audiocraft.modules.codebooks_patterns import (
    CoarseFirstPattern,
    DelayedPatternProvider,
    MusicLMPattern,
    ParallelPatternProvider,
    UnrolledPatternProvider,
)

from ..harness import adapter, assert_close

PROVIDERS = {
    "delay": DelayedPatternProvider,
    "parallel": ParallelPatternProvider,
    "unroll": UnrolledPatternProvider,
    "coarse_first": CoarseFirstPattern,
    "musiclm": MusicLMPattern,
}


@adapter("patterns")
def check(case, call):
    args, inputs, outputs = dict(call["args"]), case.inputs(call), case.outputs(call)
    provider = PROVIDERS[args.pop("provider")]
    timesteps, valid, card = args.pop("T"), args.pop("valid"), args.pop("card")
    pattern = provider(**args).get_pattern(timesteps)

    assert pattern.max_delay == call["max_delay"]
    assert pattern.num_steps == call["n_steps"]
    assert pattern.num_valid_steps == call["n_valid_steps"]
    for t, step in call["first_step_with_timesteps"].items():
        assert pattern.get_first_step_with_timesteps(int(t)) == step
    if call["layout"] is not None:
        assert [[list(coord) for coord in step] for step in pattern.layout] == call["layout"]

    sequence = pattern.build_pattern_sequence(inputs["codes"], card, valid)
    assert_close(sequence.values, outputs["sequence"])
    assert_close(sequence.indexes, outputs["indexes"])
    assert_close(sequence.mask, outputs["mask"])

    codes = pattern.revert_pattern_sequence(sequence.values, special_token=-1)
    assert_close(codes.values, outputs["reverted"])
    assert_close(codes.indexes, outputs["reverted_indexes"])
    assert_close(codes.mask, outputs["reverted_mask"])

    ours = inputs["logits"].permute(0, 2, 3, 1)  # [B, V, K, S] -> [B, K, S, V]
    logits = pattern.revert_pattern_logits(ours, float("nan"))
    assert_close(logits.values.permute(0, 3, 1, 2), outputs["logits"])
    assert_close(logits.indexes, outputs["logits_indexes"])
    assert_close(logits.mask, outputs["logits_mask"])
