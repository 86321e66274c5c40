"""A model spread over the processes of a run: each keeps a part of the weights (FSDP2).

Before a layer computes, its weights are gathered; afterwards they are scattered again. The names
in the state dict stay those of the whole model, and so does what the model computes.

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

STRATEGIES = ("no_shard", "shard_grad_op", "full_shard")
WHOLE = StateDictOptions(full_state_dict=True)


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """How a model is spread over processes; the node `fsdp`."""

    use: bool = False
    param_dtype: str = "float16"  # of the weights while they compute,
    reduce_dtype: str = "float32"  # of the sum of gradients,
    buffer_dtype: str = "float32"  # and of buffers, which are not sharded
    sharding_strategy: str = "shard_grad_op"  # shard_grad_op keeps gathered weights until the end
    per_block: bool = True  # each transformer layer by itself
    cpu_offload: bool = False  # weights and optimizer wait in the memory of the CPU
    async_save: bool = True  # write checkpoints while training goes on

    def __post_init__(self):
        if self.sharding_strategy not in STRATEGIES:
            raise ConfigError(
                f"fsdp.sharding_strategy is {self.sharding_strategy!r}. "
                f"Choose one of: {', '.join(STRATEGIES)}."
            )
        if self.buffer_dtype != "float32":
            raise ConfigError(
                f"fsdp.buffer_dtype is {self.buffer_dtype!r} but the codebooks of the style "
                "bottleneck are buffers, which need float32."
            )
        for name in ("param_dtype", "reduce_dtype"):
            resolve_dtype(getattr(self, name))

    @property
    def active(self) -> bool:
        """Whether this run shards: with one process there is nothing to share."""
        return self.use and self.sharding_strategy != "no_shard" and world_size() > 1

    @property
    def needs_scaler(self) -> bool:
        """Whether gradients are in a precision in which small ones vanish."""
        return self.active and self.param_dtype == "float16"


def shard(model: LMModel, sharding: Sharding, device: torch.device) -> None:
    """Spread a language model over all processes, in place; all hold the same weights before."""
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
            # What was prepared holds waveforms, which the listeners need as they are.
            cast_forward_inputs=False,
        ),
    }
    if sharding.per_block:
        for layer in model.transformer.layers:
            fully_shard(layer, **options)
    fully_shard(model, **options)
    register_fsdp_forward_method(model, "encode_and_predict")


def gather_weights(model: nn.Module) -> dict[str, Tensor]:
    """The whole weights of a model that may be sharded. Every process has to call it."""
    return tp.cast(dict[str, Tensor], get_model_state_dict(model, options=WHOLE))


def scatter_weights(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a sharded model its part of weights that every process holds."""
    set_model_state_dict(model, tp.cast(dict, state), options=WHOLE)


class ShardedState:
    """What of a run is sharded with its model, as distributed checkpoints want it.

    Names are those of the whole model, so parts fit any number of processes, also one that does
    not shard.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, ema: ModuleDictEMA | None
    ):
        self.model = model
        self.optimizer = optimizer
        self.ema = ema

    def state_dict(self) -> dict[str, tp.Any]:
        """Nested dictionaries of this process's tensors; filling them in place is half a load."""
        state = {
            "model": get_model_state_dict(self.model),
            "optimizer": get_optimizer_state_dict(self.model, self.optimizer),
        }
        if self.ema is not None:
            state["ema"] = self.ema.state["model"]
        return state

    def load_state_dict(self, state: dict[str, tp.Any]) -> None:
        """The other half: take over what `state_dict` gave, filled."""
        set_model_state_dict(self.model, state["model"])
        set_optimizer_state_dict(self.model, self.optimizer, state["optimizer"])

    def load_gathered(self, state: dict[str, tp.Any]) -> None:
        """Take this process's part of the state of a run that was not sharded."""
        scatter_weights(self.model, state["model"])
        named = optimizer_state_by_name(state["optimizer"], self.model)
        set_optimizer_state_dict(self.model, self.optimizer, named, options=WHOLE)
        if self.ema is not None:
            for key, average in self.ema.state["model"].items():
                value = state["ema"]["state"]["model"][key]
                if isinstance(average, DTensor):
                    value = distribute_tensor(value, average.device_mesh, average.placements)
                average.copy_(value)


def optimizer_state_by_name(state: dict[str, tp.Any], model: nn.Module) -> dict[str, tp.Any]:
    """An optimizer's state with the names of parameters in place of their numbers."""
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
    """See that nothing was chosen that sharded weights cannot do.

    Raises:
        ConfigError: Something was; the message names it.
    """
    if cfg.optim.optimizer == "dadam":
        raise ConfigError(
            "optim.optimizer=dadam sums over all weights at once and does not know sharded ones. "
            "Set optim.optimizer=adamw and an optim.lr such as 1e-4, or fsdp.use=false."
        )
    if cfg.optim.ema.use and cfg.optim.ema.device not in ("auto", cfg.device):
        raise ConfigError(
            f"optim.ema.device is {cfg.optim.ema.device} but the average of sharded weights lies "
            "beside them. Set optim.ema.device=auto."
        )
    if cfg.autocast:
        raise ConfigError("fsdp.use=true brings its own mixed precision: set autocast=false.")
