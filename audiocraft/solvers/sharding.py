"""Fully sharded data parallelism (FSDP2): each process keeps a shard of the weights.

The weights of a layer are gathered before it computes and freed afterwards. State dict keys and
results are those of the unsharded model.

Method: Zhao et al., 2023, https://arxiv.org/abs/2304.11277; PyTorch's `fully_shard`.
"""

import typing as tp
from dataclasses import dataclass

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from ..errors import ConfigError
from ..models.lm import LMModel
from ..optim.builders import get_optim_parameter_groups
from ..optim.ema import ModuleDictEMA
from ..utils.device import resolve_dtype
from .distributed import world_size

# shard_grad_op frees gathered weights after the backward pass, full_shard after each layer.
STRATEGIES = ("no_shard", "shard_grad_op", "full_shard")
GATHERED = StateDictOptions(full_state_dict=True)


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """Sharding settings; the node `fsdp`."""

    use: bool = False
    param_dtype: str = "float16"  # dtype in which layers compute
    reduce_dtype: str = "float32"  # dtype in which gradients are summed
    buffer_dtype: str = "float32"  # dtype of buffers, which are not sharded
    sharding_strategy: str = "shard_grad_op"  # see `STRATEGIES`
    per_block: bool = True  # gather one transformer layer at a time
    cpu_offload: bool = False  # keep shards and optimizer state in CPU memory
    async_save: bool = True  # write checkpoints in the background

    def __post_init__(self):
        if self.sharding_strategy not in STRATEGIES:
            raise ConfigError(
                f"fsdp.sharding_strategy={self.sharding_strategy!r} is not supported. Supported: "
                f"{', '.join(STRATEGIES)}."
            )
        if self.buffer_dtype != "float32":
            raise ConfigError(
                f"fsdp.buffer_dtype={self.buffer_dtype!r} is not supported: the codebooks of the "
                "style bottleneck are buffers and need float32."
            )
        for name in ("param_dtype", "reduce_dtype"):
            resolve_dtype(getattr(self, name))

    @property
    def active(self) -> bool:
        """Whether this run shards; a single process does not."""
        return self.use and self.sharding_strategy != "no_shard" and world_size() > 1

    @property
    def needs_scaler(self) -> bool:
        """Whether small gradients could underflow, so that the loss must be scaled."""
        return self.active and self.param_dtype == "float16"


def shard(model: LMModel, sharding: Sharding, device: torch.device) -> None:
    """Shard a language model in place; all processes hold the same weights before."""
    mesh = init_device_mesh(device.type, (world_size(),))
    pinned = device.type == "cuda"
    offload = CPUOffloadPolicy(pin_memory=pinned) if sharding.cpu_offload else OffloadPolicy()
    options: dict[str, tp.Any] = {
        "mesh": mesh,
        "reshard_after_forward": sharding.sharding_strategy == "full_shard",
        "offload_policy": offload,
        "mp_policy": MixedPrecisionPolicy(
            param_dtype=resolve_dtype(sharding.param_dtype),
            reduce_dtype=resolve_dtype(sharding.reduce_dtype),
            # Feature extractors need the prepared waveforms in float32.
            cast_forward_inputs=False,
        ),
    }
    if sharding.per_block:
        for layer in model.transformer.layers:
            fully_shard(layer, **options)
    fully_shard(model, **options)
    register_fsdp_forward_method(model, "encode_and_predict")


def gather_weights(model: nn.Module) -> dict[str, Tensor]:
    """Gather the weights of a model that may be sharded. Every process has to call it."""
    return tp.cast(dict[str, Tensor], get_model_state_dict(model, options=GATHERED))


def scatter_weights(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load gathered weights, which every process holds, into a sharded model."""
    set_model_state_dict(model, tp.cast(dict, state), options=GATHERED)


class ShardedState:
    """Sharded state of a run for distributed checkpoints: model, optimizer and EMA.

    Names are those of the unsharded model, so that a checkpoint fits any number of processes.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, ema: ModuleDictEMA | None
    ):
        self.model = model
        self.optimizer = optimizer
        self.ema = ema

    def state_dict(self) -> dict[str, tp.Any]:
        """Nested dictionaries of this process's shards, to be saved or to be loaded in place."""
        state = {
            "model": get_model_state_dict(self.model),
            "optimizer": get_optimizer_state_dict(self.model, self.optimizer),
        }
        if self.ema is not None:
            state["ema"] = self.ema.state["model"]
        return state

    def load_state_dict(self, state: dict[str, tp.Any]) -> None:
        """Apply the dictionaries of `state_dict` after they were loaded in place."""
        set_model_state_dict(self.model, state["model"])
        set_optimizer_state_dict(self.model, self.optimizer, state["optimizer"])

    def load_gathered(self, state: dict[str, tp.Any]) -> None:
        """Load this process's shards from the checkpoint of an unsharded run."""
        scatter_weights(self.model, state["model"])
        named = optimizer_state_by_name(state["optimizer"], self.model)
        set_optimizer_state_dict(self.model, self.optimizer, named, options=GATHERED)
        if self.ema is not None:
            for key, average in self.ema.state["model"].items():
                value = state["ema"]["state"]["model"][key]
                if isinstance(average, DTensor):
                    value = distribute_tensor(value, average.device_mesh, average.placements)
                average.copy_(value)


def optimizer_state_by_name(state: dict[str, tp.Any], model: nn.Module) -> dict[str, tp.Any]:
    """Replace the parameter numbers of an optimizer's state dict by parameter names."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = get_optim_parameter_groups(model)
    named_groups, numbers = [], {}
    for group, saved in zip(groups, state["param_groups"], strict=True):
        in_group = [names[id(parameter)] for parameter in group["params"]]
        numbers |= dict(zip(saved["params"], in_group, strict=True))
        named_groups.append(saved | {"params": in_group})
    values = {numbers[number]: value for number, value in state["state"].items()}
    return {"state": values, "param_groups": named_groups}


def full_tensor(value: Tensor) -> Tensor:
    """Gather a tensor that may be sharded. Every process has to call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def check_sharding(cfg: DictConfig) -> None:
    """Check that the settings of a run are supported with sharded weights.

    Raises:
        ConfigError: One is not; the message names it.
    """
    if cfg.optim.optimizer == "dadam":
        raise ConfigError(
            "optim.optimizer=dadam is not supported with fsdp.use=true, since it sums over all "
            "weights. Set optim.optimizer=adamw and an optim.lr such as 1e-4, or fsdp.use=false."
        )
    if cfg.optim.ema.use and cfg.optim.ema.device not in ("auto", cfg.device):
        raise ConfigError(
            f"optim.ema.device={cfg.optim.ema.device} is not supported with fsdp.use=true: the "
            "average is on the device of the weights. Set optim.ema.device=auto."
        )
    if cfg.autocast:
        raise ConfigError(
            "autocast=true is not supported with fsdp.use=true, which has its own mixed precision "
            "(fsdp.param_dtype). Set autocast=false."
        )
