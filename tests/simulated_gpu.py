"""Simulated GPU: `python -m tests.simulated_gpu MODULE ARGS…` runs a module with a device `gpu`.

The CPU computes its tensors. As on a real GPU, an operation on tensors of both devices raises, so
that tensors on the wrong device are found without a GPU. Kernels, precision under autocast, memory,
streams and speed are not simulated.

Method: PyTorch's hooks for a device type written in Python, and a tensor that wraps another.
"""

import runpy
import sys
import types
import typing as tp

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "gpu"
CPU = torch.device("cpu")
aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}  # between devices
# Indices may be on the CPU, as with a real GPU.
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}


def lstm_cell(input_gates, hidden_gates, cell, input_bias=None, hidden_bias=None):
    """One kernel on a GPU; without gradients."""
    gates = input_gates + hidden_gates
    for bias in (input_bias, hidden_bias):
        gates = gates if bias is None else gates + bias
    input_gate, forget, new, output_gate = gates.chunk(4, dim=-1)
    cell = forget.sigmoid() * cell + input_gate.sigmoid() * new.tanh()
    return output_gate.sigmoid() * cell.tanh(), cell, gates


KERNELS = {aten._thnn_fused_lstm_cell.default: lstm_cell}  # not implemented on the CPU


class OnDevice(torch.Tensor):
    """Tensor on the simulated device; wraps a CPU tensor."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )

    def __init__(self, held: torch.Tensor):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})

    def __repr__(self):
        return f"OnDevice({self.held})"

    def __deepcopy__(self, memo):
        copied = OnDevice(self.held.detach().clone())
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied)
        return memo.setdefault(id(self), copied.requires_grad_(self.requires_grad))

    def __reduce_ex__(self, protocol):
        return self.held.__reduce_ex__(protocol)

    def tolist(self):
        return self.held.tolist()


class SimulatedDevice(TorchDispatchMode):
    """Mode for creating tensors on the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


def check_devices(func, args, tensors: list[torch.Tensor]) -> None:
    """Raise if tensors of both devices meet; scalars on the CPU are allowed with any."""
    are_indices = func in INDEXING and isinstance(args[0], OnDevice)
    on_cpu = [tuple(x.shape) for x in tensors if not isinstance(x, OnDevice) and x.dim()]
    if on_cpu and len(on_cpu) < len(tensors) and func not in COPIES and not are_indices:
        raise RuntimeError(f"{func} meets tensors on {NAME} and, of shape {on_cpu}, on the CPU.")


def compute(func, args, kwargs):
    """Run an operation of PyTorch on the CPU; wrap the results that belong on the device."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    inside = any(isinstance(x, OnDevice) for x in tensors)
    if inside:
        check_devices(func, args, tensors)
    device = kwargs.get("device")
    if device is not None:
        inside = torch.device(device).type == NAME
        kwargs = kwargs | {"device": CPU}

    def unwrap(x: tp.Any) -> tp.Any:
        return x.held if isinstance(x, OnDevice) else x

    out = KERNELS.get(func, func)(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
    if func is aten.copy_.default:
        return args[0]
    if not inside or not any(isinstance(x, torch.Tensor) for x in tree_leaves(out)):
        return out
    out = tree_map(lambda x: OnDevice(x) if isinstance(x, torch.Tensor) else x, out)
    if func in COPIES or func in KERNELS or not tensors:
        return out
    return return_and_correct_aliasing(func, args, kwargs, out)


def install() -> SimulatedDevice:
    """Register the device with PyTorch; returns the mode in which it works."""
    backend: tp.Any = types.ModuleType("torch.gpu")
    backend.is_available = lambda: True
    backend.is_initialized = lambda: True
    backend._is_in_bad_fork = lambda: False
    backend.device_count = lambda: 1
    backend.current_device = lambda: 0
    backend.manual_seed_all = lambda seed: None
    backend.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    _setup_privateuseone_for_python_backend(NAME, backend)
    torch._C._set_only_lift_cpu_tensors(True)  # so that `torch.tensor(…, device=…)` copies
    torch.inference_mode = lambda mode=True: torch.no_grad()  # does not support wrapped tensors
    fallback = torch.library.Library("_", "IMPL")
    fallback.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    mode = SimulatedDevice()
    mode.fallback = fallback  # it is removed with its last reference
    return mode


if __name__ == "__main__":
    del sys.argv[0]
    with install():
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
