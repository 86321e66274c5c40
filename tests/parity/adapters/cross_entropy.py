"""Replays the cross entropy per codebook."""

from audiocraft.solvers.cross_entropy import codebook_cross_entropy

from ..harness import adapter, assert_close


@adapter("cross_entropy")
def check(case, call):
    inputs, outputs = case.inputs(call), case.outputs(call)
    loss, per_codebook = codebook_cross_entropy(
        inputs["logits"], inputs["targets"], inputs["mask"].bool()
    )
    assert_close(loss, outputs["ce"])
    assert_close(per_codebook, outputs["ce_per_codebook"])
