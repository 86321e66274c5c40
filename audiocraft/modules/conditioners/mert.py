"""MERT: architecture and weights, as a HuBERT.

The published MERT-v1-95M comes with its own code, which current libraries cannot run; but it is
numerically a plain HuBERT, so no remote code is needed. Its licence, CC-BY-NC 4.0, does not allow
commercial use.

Method: Li et al., 2023, https://arxiv.org/abs/2306.00107; HuBERT: Hsu et al., 2021,
https://arxiv.org/abs/2106.07447.
"""

import typing as tp
from pathlib import Path

import transformers  # a lazy package: HubertModel is imported when it is first built
from torch import nn

from ...errors import CheckpointError
from ...utils.weight_files import read_safetensors_file, read_torch_file

MERT_CONFIG: dict[str, tp.Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "layerdrop": 0.05,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],  # a frame every 320 samples of 24 kHz
    "conv_bias": False,
    "feat_extract_norm": "group",
    "feat_proj_layer_norm": True,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "do_stable_layer_norm": False,  # norms come after the blocks
}

MAX_MESSAGE = 300  # characters kept of PyTorch's list of differing keys

# Keys of weight normalisation before it became a parametrization.
OLD_NAMES = {
    "conv.weight_g": "conv.parametrizations.weight.original0",
    "conv.weight_v": "conv.parametrizations.weight.original1",
}


def build_hubert(config: tp.Mapping[str, tp.Any] = MERT_CONFIG) -> "transformers.HubertModel":
    """Build a network with random weights; by default of MERT's size."""
    return transformers.HubertModel(transformers.HubertConfig(**config))


def load_hubert_state(network: nn.Module, path: Path | str) -> None:
    """Load published weights, with old or new keys of weight normalisation.

    Args:
        network: Result of `build_hubert`.
        path: A safetensors or PyTorch file.

    Raises:
        CheckpointError: The file holds other weights.
    """
    path = Path(path)
    is_safetensors = path.suffix == ".safetensors"
    state = read_safetensors_file(path)[0] if is_safetensors else read_torch_file(path)
    try:
        network.load_state_dict({_new_name(key): value for key, value in state.items()})
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not hold the weights of this MERT: {str(error)[:MAX_MESSAGE]}… Take "
            "the file of m-a-p/MERT-v1-95M."
        ) from error


def _new_name(key: str) -> str:
    for old, new in OLD_NAMES.items():
        if key.endswith(old):
            return key.removesuffix(old) + new
    return key
