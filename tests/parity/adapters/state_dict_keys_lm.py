"""Names and shapes of the weights of models in their real size, built from our configuration."""

import torch
from hydra import compose, initialize_config_dir

from audiocraft.environment import config_dir
from audiocraft.models.builders import get_lm_model

from ..harness import adapter


@adapter("state_dict_keys_lm")
def check(case, call):
    for name, recorded in case.meta["models"].items():
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            cfg = compose("config", recorded["overrides"])
        with torch.device("meta"):
            lm = get_lm_model(cfg)
        shapes = {key: list(value.shape) for key, value in lm.state_dict().items()}
        assert shapes == recorded["shapes"], name
        count = sum(parameter.numel() for parameter in lm.parameters() if parameter.requires_grad)
        assert count == recorded["n_parameters"], name
        assert shapes.keys() - dict(lm.named_parameters()).keys() == set(recorded["buffers"]), name
