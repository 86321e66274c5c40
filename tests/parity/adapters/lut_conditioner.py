"""Replays `lut_conditioner`: hashing, the lookup table, masks from lengths."""

from audiocraft.modules.conditioners import LUTConditioner
from audiocraft.modules.conditioners.base import length_to_mask
from audiocraft.modules.conditioners.text import hash_trick

from ..harness import adapter, assert_close


@adapter("lut_conditioner")
def check(case, call):
    CHECKS[call["what"].split("(")[0].split(".")[-1].split(" ")[0]](case, call)


def check_conditioner(case, call):
    lut = LUTConditioner(**case.meta["config"])
    lut.load_state_dict(case.state())
    expected = case.outputs(call)

    tokens = lut.prepare(call["args"]["values"])
    condition = lut(tokens)

    assert_close(tokens.ids, expected["tokens"])
    assert_close(tokens.mask.int(), expected["token_mask"])
    assert_close(condition.embed, expected["embeds"])
    assert_close(condition.mask.int(), expected["mask"])


def check_hash(case, call):
    for vocab_size, values in case.outputs(call)["values"].items():
        ours = [hash_trick(word, int(vocab_size)) for word in call["args"]["words"]]
        assert ours == values


def check_lengths(case, call):
    """Compare masks; fractional lengths of `mask_float` are derived from the recorded mask."""
    lengths, expected = case.inputs(call)["lengths"], case.outputs(call)
    if "mask_float" in expected:
        mask = expected["mask_float"]
        started = (mask.sum(1) - 0.5).clamp(min=0)  # a partial step counts as a whole one
        assert_close(length_to_mask(started, mask.shape[1]), mask)
    for name, mask in expected.items():
        if name.startswith("mask_max"):
            assert_close(length_to_mask(lengths, int(name.removeprefix("mask_max"))), mask)
    assert_close(length_to_mask(lengths), expected["mask"])


CHECKS = {
    "tokenize": check_conditioner,
    "hash_trick": check_hash,
    "length_to_mask": check_lengths,
}
