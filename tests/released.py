"""Files with the names, shapes and precision of the released models, but other values."""

from pathlib import Path

import torch
import transformers
from omegaconf import OmegaConf

from audiocraft.models import builders
from audiocraft.models.weights import pretrained
from audiocraft.modules.conditioners import build_hubert
from audiocraft.utils.weight_files import write_safetensors_file

from .conftest import composed
from .tiny_t5 import write_vocabulary

STYLE = "solver=musicgen/musicgen_style_32khz"


def zeros(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros(like.shape, dtype=torch.float16 if like.is_floating_point() else None)


def noise(like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape).mul_(0.02).half() if like.is_floating_point() else zeros(like)


def write_lm(path: Path, *overrides: str, fill=zeros) -> int:
    """A file of float16 weights in the layout of its suffix; returns their size in bytes."""
    config = composed(STYLE, *overrides)
    with torch.device("meta"):
        shapes = builders.get_lm_model(config).state_dict()
    state = {key: fill(value) for key, value in shapes.items()}
    text = OmegaConf.to_yaml(config)
    if path.suffix == ".safetensors":
        write_safetensors_file(path, state, {"xp.cfg": text})
    elif path.suffix == ".th":  # with the latest weights and the state of the optimizer
        other = {key: value.clone() for key, value in state.items()}
        content = {"best_state": {"model": state}, "model": other, "optimizer": {"state": other}}
        torch.save(content | {"xp.cfg": text}, path)
    else:
        torch.save({"best_state": state, "xp.cfg": text}, path)
    return sum(value.numel() * value.element_size() for value in state.values())


def place_released(folder: Path, *overrides: str) -> None:
    """Write all files that facebook/musicgen-style needs, with random values, into a cache.

    Args:
        folder: The cache.
        overrides: Overrides of the configuration of the language model.
    """
    for name in ("facebook/musicgen-style", pretrained.MERT, "t5-base"):
        (folder / name).mkdir(parents=True)
    music, t5 = folder / "facebook/musicgen-style", folder / "t5-base"
    write_lm(music / "state_dict.bin", *overrides, fill=noise)
    config = composed("solver=compression/encodec_musicgen_32khz")
    codec = {"best_state": builders.get_compression_model(config).state_dict()}
    torch.save(codec | {"xp.cfg": OmegaConf.to_yaml(config)}, music / "compression_state_dict.bin")
    torch.save(build_hubert().state_dict(), folder / pretrained.MERT / "pytorch_model.bin")
    write_vocabulary(t5)
    tokenizer = transformers.T5Tokenizer.from_pretrained(t5, extra_ids=0)
    tokenizer.save_pretrained(t5)
    sizes = {
        "d_model": 768,
        "d_ff": 3072,
        "num_layers": 12,
        "num_heads": 12,
    }  # sizes of t5-base, except the vocabulary
    config = transformers.T5Config(vocab_size=len(tokenizer), **sizes)
    transformers.T5EncoderModel(config).save_pretrained(t5)
