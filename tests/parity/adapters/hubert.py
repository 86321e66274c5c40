"""Replays `hubert_*`: the network of MERT and its number of frames."""

import json
import re

from audiocraft.modules.conditioners import MertFeatures, build_hubert

from ..harness import adapter, assert_close, fill_with_recipe, recipe


@adapter("hubert_")
def check(case, call):
    network = build_hubert(case.meta["config"])
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == case.meta["state_keys"]
    fill_with_recipe(network, case.meta["state_seed"])
    feature_extractor = MertFeatures(network)
    args = call["args"]
    wav = recipe(args["wav_seed"], args["wav_key"], args["wav_shape"]) * args["wav_scale"]

    assert_close(feature_extractor.features(wav), case.outputs(call)["hidden"])

    counts = re.search(r"\{.*\}", case.meta["note"])
    if counts:
        quoted = re.sub(r"(\d+):", r'"\1":', counts.group())
        for num_samples, num_frames in json.loads(quoted).items():
            assert feature_extractor.num_frames(int(num_samples)) == num_frames
