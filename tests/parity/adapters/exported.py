"""Replays generation with an exported model: equal tokens and audio."""

import re

import torch

from audiocraft.models import MusicGen

from ..harness import adapter, assert_close


@adapter("exported_")
def check(case, call):
    model = MusicGen.get_pretrained(str(case.path), device="cpu", dtype=torch.float32)
    assert (model.frame_rate, model.sample_rate) == (
        case.meta["frame_rate"],
        case.meta["sample_rate"],
    )
    recorded = case.outputs(call)

    wav, tokens = generated(model, case, call)

    assert list(tokens.shape) == call["tokens_shape"]
    assert_close(tokens, recorded["tokens"])
    kept = re.search(r"every (\d+)", call.get("audio_note", ""))
    every = int(kept.group(1)) if kept else 1
    assert list(wav[..., ::every].shape) == call["audio_shape"]
    assert_close(wav[..., ::every], recorded["audio"], atol=1e-4)


def generated(model, case, call):
    """Return audio and tokens of one recorded call."""
    args = call["args"]
    # The original does not support windows as short as those of this model.
    model.max_duration = float(args.get("max_duration", case.meta["max_duration"]))
    guidance = {k: args[k] for k in ("cfg_coef", "cfg_coef_beta", "two_step_cfg") if k in args}
    model.set_generation_params(
        use_sampling=False,
        duration=args["duration"],
        extend_stride=args.get("extend_stride"),
        **guidance,
    )
    if "prompt_sample_rate" in args:
        return model.generate_continuation(
            case.inputs(call)["prompt"],
            args["prompt_sample_rate"],
            args.get("descriptions"),
            return_tokens=True,
        )
    if args.get("descriptions"):
        return model.generate(args["descriptions"], return_tokens=True)
    return model.generate_unconditional(args["num_samples"], return_tokens=True)
