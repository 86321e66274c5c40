"""Where tensors live: names of devices and precisions, as configurations write them."""

import torch

from ..errors import ConfigError


def resolve_device(name: str | torch.device | None) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1`, `mps` into a device that exists here.

    `auto` (or `None`) takes a CUDA GPU if there is one, then Apple's, then the CPU.

    Raises:
        ConfigError: The device is named but absent.
    """
    if isinstance(name, torch.device):
        return name
    if name in (None, "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"device is {name!r}, which PyTorch does not know. Choose auto, cpu, cuda or mps."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device is {name!r} but PyTorch sees no GPU. Use device=auto or cpu.")
    return device


def resolve_dtype(name: str | torch.dtype) -> torch.dtype:
    """Turn `float32`, `float16` or `bfloat16` into a torch dtype.

    Raises:
        ConfigError: It is another name.
    """
    if isinstance(name, torch.dtype):
        return name
    names = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if name not in names:
        raise ConfigError(f"dtype is {name!r}. Choose one of: {', '.join(names)}.")
    return names[name]
