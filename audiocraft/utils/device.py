"""Devices and dtypes from the names that configurations use."""

import torch

from ..errors import ConfigError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def resolve_device(name: str | torch.device | None) -> torch.device:
    """Return the device called `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

    `auto` (or `None`) is a CUDA GPU if there is one, else Apple's GPU, else the CPU.

    Raises:
        ConfigError: The name is unknown, or there is no such device.
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
            f"device={name!r} is not a device of PyTorch. Choose auto, cpu, cuda or mps."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name!r} but PyTorch finds no CUDA GPU. Use device=auto or cpu.")
    return device


def resolve_dtype(name: str | torch.dtype) -> torch.dtype:
    """Return the dtype called `float32`, `float16` or `bfloat16`.

    Raises:
        ConfigError: The name is unknown.
    """
    if isinstance(name, torch.dtype):
        return name
    if name not in DTYPES:
        raise ConfigError(f"dtype={name!r} is not supported. Supported: {', '.join(DTYPES)}.")
    return DTYPES[name]


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Copy a CPU tensor to a device without making the host wait for the device's queue."""
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
