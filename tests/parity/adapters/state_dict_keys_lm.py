"""Replays state keys and shapes of released models, built from our configuration."""

import torch

from audiocraft.models.builders import get_lm_model

from ..configuration import compose_config
from ..harness import adapter


@adapter("state_dict_keys_lm")
def check(case, call):
    for name, recorded in case.meta["models"].items():
        with torch.device("meta"):
            lm = get_lm_model(compose_config(*recorded["overrides"]))
        shapes = {key: list(value.shape) for key, value in lm.state_dict().items()}
        assert shapes == recorded["shapes"], name
        assert list(shapes) == list(recorded["shapes"]), f"{name}: another order"
        assert len(shapes) == recorded["n_tensors"], name
        count = sum(parameter.numel() for parameter in lm.parameters() if parameter.requires_grad)
        assert count == recorded["n_parameters"], name
        assert shapes.keys() - dict(lm.named_parameters()).keys() == set(recorded["buffers"]), name
