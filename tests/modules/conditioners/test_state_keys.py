"""State keys and shapes of the conditioners of released models."""

import json

import pytest

from audiocraft.modules.conditioners import (
    ChromaStemConditioner,
    ConditionProvider,
    MertFeatures,
    StyleConditioner,
    T5Conditioner,
)
from tests.parity.harness import configured_folders

FILE = "state_dict_keys_lm.json"
FOLDERS = [folder for folder in configured_folders() if (folder / FILE).exists()]
RECORDED = [*FOLDERS, *configured_folders()][0] / FILE


def nothing(*args):
    raise AssertionError("loaded")


def feature_extractor_of(kind, dim):
    if kind == "style":
        return {"self_wav": StyleConditioner(MertFeatures(nothing), dim)}
    if kind == "melody":
        return {"self_wav": ChromaStemConditioner(dim, sample_rate=32_000)}
    return {}


@pytest.mark.skipif(not RECORDED.exists(), reason=f"no {RECORDED}")
@pytest.mark.parametrize("model", ["style_small", "text_small", "melody_medium"])
def test_weights_have_the_names_of_released_models(model):
    prefix = "condition_provider."
    shapes = json.loads(RECORDED.read_text())["models"][model]["shapes"]
    expected = {k.removeprefix(prefix): v for k, v in shapes.items() if k.startswith(prefix)}
    dim = expected["conditioners.description.output_proj.bias"][0]

    provider = ConditionProvider(
        feature_extractor_of(model.split("_")[0], dim)
        | {"description": T5Conditioner("t5-base", dim, load=nothing)}
    )

    assert {k: list(v.shape) for k, v in provider.state_dict().items()} == expected
