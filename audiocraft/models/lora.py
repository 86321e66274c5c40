"""Fine-tuning by small additions to the weights: low-rank adapters (LoRA).

The weights of the model stay as they are; beside each large matrix learns the product of two thin
ones. What was learnt is a few megabytes that go with their base model and no other; merged, it is
a model like any other.

Method: Hu et al., 2021, https://arxiv.org/abs/2106.09685; the layers are those of `peft`.
"""

import copy
import hashlib
import json
import typing as tp
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..modules.conditioners import StyleConditioner
from ..utils.weight_files import write_safetensors_file
from .lm import LMModel

StateDict = dict[str, Tensor]
NAME = "default"  # of the adapter within peft
FINGERPRINT_ELEMENTS = 256  # of each tensor
ADAPTED_LAYERS = (".linear1.weight", ".linear2.weight", "_attn.out_proj.weight")
ADAPTED_LAYERS += ("cross_attention.out_proj.weight",)
ADAPTED_PARAMETERS = (".self_attn.in_proj_weight",)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """What adapts; the node `lora`."""

    use: bool = False
    rank: int = 16  # width of the thin matrices
    alpha: float = 32.0  # what they add is scaled by alpha / rank
    dropout: float = 0.0  # probability, of what adapters of whole layers read
    style: bool = False  # also adapt the style conditioner, whose codebooks then follow

    def __post_init__(self):
        if self.use and self.rank < 1:
            raise ConfigError(f"lora.rank must be at least 1 but is {self.rank}.")
        if self.use and not self.alpha > 0:
            raise ConfigError(f"lora.alpha must be above 0 but is {self.alpha}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"lora.dropout is a probability below 1, not {self.dropout}.")


def add_adapters(model: LMModel, lora: Lora) -> None:
    """Put adapters into a language model, in place; nothing else of it learns from now on.

    New adapters add nothing: the model gives what it gave.

    Raises:
        ConfigError: `peft` is not installed.
    """
    try:
        import peft  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError("LoRA needs peft: pip install 'audiocraft-style[lora]'.") from error
    model.requires_grad_(False)
    _inject(peft, model, lora, [f"linears.{k}" for k in range(len(model.linears))], [])
    stacks: list[nn.Module] = [model.transformer]
    if lora.style:
        for conditioner in model.condition_provider.conditioners.values():
            if isinstance(conditioner, StyleConditioner):
                _inject(peft, conditioner, lora, _linear_layers(conditioner), [])
                stacks += [conditioner.transformer] if conditioner.transformer else []
    for stack in stacks:
        names = [name for name, _ in stack.named_parameters()]
        layers = [n.removesuffix(".weight") for n in names if n.endswith(ADAPTED_LAYERS)]
        _inject(peft, stack, lora, layers, [])
        _inject(peft, stack, lora, [], [n for n in names if n.endswith(ADAPTED_PARAMETERS)])


def _inject(
    peft: tp.Any, module: nn.Module, lora: Lora, layers: list[str], parameters: list[str]
) -> None:
    """Put adapters beside the named layers, or the named bare parameters, of a module."""
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0 if parameters else lora.dropout,  # peft knows none for parameters
        target_modules=layers,
        target_parameters=parameters,
    )
    peft.inject_adapter_in_model(config, module, NAME)
    del module.peft_config  # it would stand in the way of the next injection


def _linear_layers(conditioner: StyleConditioner) -> list[str]:
    """Names of the layers before and behind a style conditioner's transformer."""
    layers = {"embed": conditioner.embed, "output_proj": conditioner.output_proj}
    return [name for name, layer in layers.items() if isinstance(layer, nn.Linear)]


def original_name(name: str) -> str:
    """The name that a weight has without adapters."""
    return name.replace(".base_layer", "")


def is_adapter_weight(name: str) -> bool:
    """Whether a weight belongs to an adapter."""
    return ".lora_" in name


def check_not_adapter(state: tp.Mapping[str, Tensor], path: Path) -> None:
    """See that weights are more than an adapter.

    Raises:
        CheckpointError: They are additions to a base that is not among them.
    """
    has_base = any(".base_layer" in name and not is_adapter_weight(name) for name in state)
    if any(map(is_adapter_weight, state)) and not has_base:
        raise CheckpointError(
            f"{path} is an adapter, which goes with its base model: load that one and call "
            "`load_adapter`, or take //sig/SIG of the run that trained it, where it is merged."
        )


def load_base_weights(model: LMModel, state: StateDict) -> None:
    """Give a model with adapters the weights of the one that it adapts.

    Raises:
        CheckpointError: The weights are of another model.
    """
    names = {original_name(key): key for key in model.state_dict() if not is_adapter_weight(key)}
    missing, extra = names.keys() - state.keys(), state.keys() - names.keys()
    if missing or extra:
        raise CheckpointError(
            "These weights are of another model than the one to adapt: "
            f"{sorted(missing | extra)[0]} is in one of them only."
        )
    model.load_state_dict({names[key]: value for key, value in state.items()}, strict=False)


def merged_state_dict(model: LMModel) -> StateDict:
    """The weights of a model like any other, with what its adapters add, under original names."""
    state = {
        original_name(key): value
        for key, value in model.state_dict().items()
        if not is_adapter_weight(key)
    }
    for name, addition in adapter_deltas(model).items():
        state[name] = state[name] + addition.to(state[name])
    return state


def adapter_deltas(model: nn.Module) -> StateDict:
    """What each adapter adds to which weight, by original names."""
    found: StateDict = {}
    for name, module in model.named_modules():
        if NAME in getattr(module, "lora_A", {}):
            weight = getattr(module, "parameter_name", "weight")
            delta = tp.cast(tp.Any, module).get_delta_weight(NAME).detach()
            found[original_name(f"{name}.{weight}")] = delta
    return found


def adapter_state_dict(model: LMModel, lora: Lora) -> StateDict:
    """What was learnt beside the base: the adapters, and codebooks that followed them."""
    state = {key: value for key, value in model.state_dict().items() if is_adapter_weight(key)}
    if lora.style:
        buffers = {name for name, _ in model.named_buffers()}
        state |= {key: value for key, value in model.state_dict().items() if key in buffers}
    return state


def fingerprint(state: tp.Mapping[str, Tensor]) -> str:
    """Tells one base model from another: a digest of names, shapes and some of the numbers.

    Numbers count in half precision, so that a model and its export are the same.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach()
        digest.update(f"{name}{list(value.shape)}".encode())
        flat = value.flatten()
        some = flat[:: max(1, len(flat) // FINGERPRINT_ELEMENTS)]
        digest.update(some.cpu().half().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_adapter(model: LMModel, lora: Lora, base: tp.Mapping[str, str], path: Path) -> None:
    """Write what was learnt as one safetensors file.

    Args:
        model: With adapters.
        lora: How they were made.
        base: `name` and `fingerprint` of the base model.
        path: Usually `adapter.safetensors`.
    """
    described = {"lora": json.dumps(asdict(lora))} | {f"base_{k}": v for k, v in base.items()}
    temporary = path.with_name(path.name + ".part")
    write_safetensors_file(temporary, adapter_state_dict(model, lora), described)
    temporary.replace(path)


def merge_adapter(model: LMModel, path: Path | str) -> None:
    """Add what an adapter file holds to the weights of its base model, in place.

    Raises:
        CheckpointError: The file is no adapter, or one of another base.
    """
    try:
        with safe_open(path, framework="pt") as file:
            described = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as an adapter: {error}") from error
    if not {"lora", "base_fingerprint", "base_name"} <= described.keys():
        raise CheckpointError(
            f"{path} is no adapter of ours: train one with lora.use=true, which leaves "
            "`adapter.safetensors` in the experiment's folder."
        )
    own = fingerprint(model.state_dict())
    if own != described["base_fingerprint"]:
        raise CheckpointError(
            f"{path} was made for {described['base_name']}, of the fingerprint "
            f"{described['base_fingerprint']}, but this model has {own}: it is another one, or an "
            "adapter is in it already. Load that model first."
        )
    lora = Lora(**json.loads(described["lora"]))
    adapted = copy.deepcopy(model)
    add_adapters(adapted, lora)
    adapted.load_state_dict(state, strict=False)
    model.load_state_dict(merged_state_dict(adapted))
