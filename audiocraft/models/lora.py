"""LoRA: fine-tuning of low-rank adapters beside frozen weights.

Each large matrix gets a trainable product of two thin ones. The adapters are a few megabytes and
belong to their base model; merged into its weights they give an ordinary model.

Method: Hu et al., 2021, https://arxiv.org/abs/2106.09685; the layers are those of `peft`.
"""

import copy
import hashlib
import json
import typing as tp
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..modules.conditioners import StyleConditioner
from ..utils.atomic_write import atomic_path
from ..utils.weight_files import read_safetensors_file, write_safetensors_file
from .lm import LMModel

StateDict = dict[str, Tensor]
ADAPTER_NAME = "default"  # within peft
FINGERPRINT_ELEMENTS = 256  # sampled from each tensor
ADAPTED_LAYERS = (".linear1.weight", ".linear2.weight", "_attn.out_proj.weight")
ADAPTED_LAYERS += ("cross_attention.out_proj.weight",)
ADAPTED_PARAMETERS = (".self_attn.in_proj_weight",)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Parameters of the adapters: the node `lora`."""

    use: bool = False
    rank: int = 16  # inner width of the product
    alpha: float = 32.0  # the product is scaled by alpha / rank
    dropout: float = 0.0  # probability, on the input of adapters of layers
    style: bool = False  # also adapt the style conditioner; its codebooks are then updated

    def __post_init__(self):
        if self.use and self.rank < 1:
            raise ConfigError(f"lora.rank={self.rank} must be at least 1.")
        if self.use and not self.alpha > 0:
            raise ConfigError(f"lora.alpha={self.alpha} must be above 0.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"lora.dropout={self.dropout} must be a probability below 1.")


def add_adapters(model: LMModel, lora: Lora) -> None:
    """Add adapters to a language model, in place, and freeze its other parameters.

    New adapters are zero: the output of the model does not change.

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
    """Add adapters to the named layers, or the named bare parameters, of a module."""
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0 if parameters else lora.dropout,  # peft supports none for parameters
        target_modules=layers,
        target_parameters=parameters,
    )
    peft.inject_adapter_in_model(config, module, ADAPTER_NAME)
    del module.peft_config  # which would prevent the next injection


def _linear_layers(conditioner: StyleConditioner) -> list[str]:
    """Return the linear layers before and after the transformer of a style conditioner."""
    layers = {"embed": conditioner.embed, "output_proj": conditioner.output_proj}
    return [name for name, layer in layers.items() if isinstance(layer, nn.Linear)]


def original_name(name: str) -> str:
    """Return the name that a weight has in a model without adapters."""
    return name.replace(".base_layer", "")


def is_adapter_weight(name: str) -> bool:
    """Whether a weight belongs to an adapter."""
    return ".lora_" in name


def check_not_adapter(state: tp.Mapping[str, Tensor], path: Path) -> None:
    """Check that weights are not an adapter without its base model.

    Raises:
        CheckpointError: They are.
    """
    has_base = any(".base_layer" in name and not is_adapter_weight(name) for name in state)
    if any(map(is_adapter_weight, state)) and not has_base:
        raise CheckpointError(
            f"{path} is an adapter without its base model. Load the base model and call "
            "`load_adapter`, or load //sig/SIG of the run, which has the merged weights."
        )


def load_base_weights(model: LMModel, state: StateDict) -> None:
    """Load the weights of the base model into a model with adapters.

    Raises:
        CheckpointError: The weights are of another model.
    """
    names = {original_name(key): key for key in model.state_dict() if not is_adapter_weight(key)}
    missing, extra = names.keys() - state.keys(), state.keys() - names.keys()
    if missing or extra:
        raise CheckpointError(
            "The weights are not of the base model of these adapters: "
            f"{sorted(missing | extra)[0]} is in one of them only. Set continue_from to its model."
        )
    model.load_state_dict({names[key]: value for key, value in state.items()}, strict=False)


def merged_state_dict(model: LMModel) -> StateDict:
    """Return the weights with merged adapters, under the names of a model without adapters."""
    state = {
        original_name(key): value
        for key, value in model.state_dict().items()
        if not is_adapter_weight(key)
    }
    for name, delta in adapter_deltas(model).items():
        state[name] = state[name] + delta.to(state[name])
    return state


def adapter_deltas(model: nn.Module) -> StateDict:
    """Return the change of each adapted weight, by the names of a model without adapters."""
    deltas: StateDict = {}
    for name, module in model.named_modules():
        if ADAPTER_NAME in getattr(module, "lora_A", {}):
            weight = getattr(module, "parameter_name", "weight")
            delta = tp.cast(tp.Any, module).get_delta_weight(ADAPTER_NAME).detach()
            deltas[original_name(f"{name}.{weight}")] = delta
    return deltas


def adapter_state_dict(model: LMModel, lora: Lora) -> StateDict:
    """Return the trained state: the adapters, and with `lora.style` the updated buffers."""
    state = {key: value for key, value in model.state_dict().items() if is_adapter_weight(key)}
    if lora.style:
        buffers = {name for name, _ in model.named_buffers()}
        state |= {key: value for key, value in model.state_dict().items() if key in buffers}
    return state


def fingerprint(state: tp.Mapping[str, Tensor]) -> str:
    """Return a hash that identifies a base model, of names, shapes and some of the values.

    Values are hashed in half precision, so that a model and its export have the same fingerprint.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach()
        digest.update(f"{name}{list(value.shape)}".encode())
        flat = value.flatten()
        sampled = flat[:: max(1, len(flat) // FINGERPRINT_ELEMENTS)]
        digest.update(sampled.cpu().half().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_adapter(model: LMModel, lora: Lora, base: tp.Mapping[str, str], path: Path) -> None:
    """Write the adapters as a safetensors file.

    Args:
        model: Language model with adapters.
        lora: Their parameters.
        base: `name` and `fingerprint` of the base model.
        path: File to write, usually `adapter.safetensors`.
    """
    header = {"lora": json.dumps(asdict(lora))} | {f"base_{k}": v for k, v in base.items()}
    with atomic_path(path) as temporary:
        write_safetensors_file(temporary, adapter_state_dict(model, lora), header)


def merge_adapter(model: LMModel, path: Path | str) -> None:
    """Merge an adapter file into the weights of its base model, in place.

    Raises:
        CheckpointError: The file is not an adapter, is corrupt, or belongs to another model.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no adapter at {path}.")
    state, header = read_safetensors_file(path)
    if not {"lora", "base_fingerprint", "base_name"} <= header.keys():
        raise CheckpointError(
            f"{path} is not an adapter of this project. Train one with lora.use=true, which writes "
            "`adapter.safetensors` to the experiment's folder."
        )
    own = fingerprint(model.state_dict())
    if own != header["base_fingerprint"]:
        raise CheckpointError(
            f"{path} belongs to {header['base_name']} with the fingerprint "
            f"{header['base_fingerprint']}, but this model has {own}: it is another model, or "
            f"already has an adapter. Load {header['base_name']} first."
        )
    lora = Lora(**json.loads(header["lora"]))
    adapted = copy.deepcopy(model)
    add_adapters(adapted, lora)
    adapted.load_state_dict(state, strict=False)
    model.load_state_dict(merged_state_dict(adapted))
