"""Replays the distributions after top-k and top-p."""

from audiocraft.modules.sampling import Sampling, filtered_probs

from ..harness import adapter, assert_close


@adapter("sampling_filters")
def check(case, call):
    args, inputs, outputs = call["args"], case.inputs(call), case.outputs(call)
    sampling = Sampling(temperature=args["temp"], top_k=args.get("k", 0), top_p=args.get("p", 0.0))
    probs = filtered_probs(inputs["logits"], sampling)
    assert_close(probs, outputs["filtered"])
    if "filtered_sorted" in outputs:
        assert_close(probs.sort(dim=-1, descending=True).values, outputs["filtered_sorted"])
