"""A complete model as the original exports it: the same tokens and the same audio."""

import json

import torch
from safetensors.torch import load_file

from audiocraft.models import MusicGen
from tests.parity.harness import adapter, assert_close


def generated(model, call, prompts):
    """Audio and tokens of one recorded call."""
    args = call["args"]
    if "max_duration" in args:
        model.max_duration = float(args["max_duration"])
    model.set_generation_params(
        use_sampling=False,
        duration=args["duration"],
        cfg_coef=args.get("cfg_coef", 3.0),
        extend_stride=args.get("extend_stride"),
    )
    if "prompt_sample_rate" in args:
        return model.generate_continuation(
            prompts[call["name"]],
            args["prompt_sample_rate"],
            args.get("descriptions"),
            return_tokens=True,
        )
    return model.generate_unconditional(args["num_samples"], return_tokens=True)


@adapter("exported_")
def check(case, call):
    expected = json.loads((case.path / "expected.json").read_text())
    tensors = load_file(case.path / "expected.safetensors")
    prompts = {
        call["name"]: next(
            (v for k, v in tensors.items() if call["name"] == k.split("/")[1] and "in/" in k), None
        )
        for call in expected["calls"]
    }
    for call in expected["calls"]:
        model = MusicGen.get_pretrained(str(case.path), device="cpu", dtype=torch.float32)
        assert (model.frame_rate, model.sample_rate) == (
            expected["frame_rate"],
            expected["sample_rate"],
        )
        wav, tokens = generated(model, call, prompts)
        assert_close(tokens, tensors[f"out/{call['name']}/tokens"])
        audio = tensors[f"out/{call['name']}/audio"]
        every = 8 if "every 8th" in call.get("audio_note", "") else 1
        assert_close(wav[..., ::every], audio, atol=1e-4, rtol=1e-4)
