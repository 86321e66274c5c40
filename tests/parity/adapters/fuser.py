"""Replays the fuser with every fuse method, in one call and streamed."""

from audiocraft.modules.conditioners import Condition, ConditionFuser

from ..harness import adapter, assert_close


@adapter("fuser")
def check(case, call):
    args, inputs, expected = call["args"], case.inputs(call), case.outputs(call)
    options = {k: v for k, v in args.items() if k not in ("fuse2cond", "condition_order")}
    fuser = ConditionFuser(args["fuse2cond"], **options)
    embeds = {name: inputs[f"cond/{name}"] for name in args["condition_order"]}
    conditions = {
        name: Condition(embed, embed.new_ones(embed.shape[:2]).bool())
        for name, embed in embeds.items()
    }
    x = inputs["x"]
    begin = x.shape[1] - expected["stream_second"].shape[1]  # steps of the first streamed call

    fused = fuser(x, conditions)
    first = fuser(x[:, :begin], conditions)
    second = fuser(x[:, begin:], conditions, offset=begin + first.num_prefix)

    assert fused.num_prefix == fused.x.shape[1] - x.shape[1]
    assert_close(fused.x, expected["input"])
    assert_close(first.x, expected["stream_first"])
    assert_close(second.x, expected["stream_second"])
    assert (fused.cross is None) == ("cross" not in expected)
    if fused.cross is not None:
        assert_close(fused.cross, expected["cross"])
