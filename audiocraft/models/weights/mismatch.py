"""Diagnosis of weights that do not match a model: differing keys and the probable cause.

One wrong setting makes hundreds of keys differ. They are summarized by part of the model, and the
setting is inferred from the weights: width and depth of the transformer, kinds of conditioners.
"""

import re
import typing as tp

from torch import Tensor, nn

from ...errors import CheckpointError

State = tp.Mapping[str, Tensor]

SCALES = {  # width and layers of the sizes in config/model/lm/model_scale
    (64, 2): "xsmall",
    (192, 5): "tiny",
    (512, 8): "base",
    (1024, 24): "small",
    (1536, 48): "medium",
    (2048, 48): "large",
}
# Settings of conditioners, with the layer and axis whose width shows the value.
WIDTHS: dict[str, tuple[str, int, dict[int, str]]] = {
    "style.model_name": ("embed", 1, {768: "mert", 753: "musicnn"}),
    "style.transformer_scale": ("embed", 0, {256: "xsmall", 512: "default", 1024: "large"}),
    "text.t5.name": ("output_proj", 1, {512: "t5-small", 768: "t5-base", 1024: "t5-large"}),
}
PREFIXES = ("module.", "_orig_mod.", "model.", "lm.")  # that wrappers add to all keys
_PROVIDER = "condition_provider.conditioners."
MAX_PARTS = 6  # listed one by one


def load_matching_state(model: nn.Module, state: State, source: str, assign: bool = False) -> None:
    """Load weights whose keys and shapes are exactly the model's.

    Args:
        model: Model to load into.
        state: State dict.
        source: File of the weights, for the error.
        assign: Use the tensors themselves, with their dtype, instead of copying values.

    Raises:
        CheckpointError: Keys or shapes differ; nothing has been loaded.
    """
    own = model.state_dict()
    groups = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "with another shape": [k for k in own if k in state and own[k].shape != state[k].shape],
    }
    if any(groups.values()):
        summary = [_summarize(title, keys, own, state) for title, keys in groups.items() if keys]
        causes = [*probable_causes(own, state)]
        causes = causes or ["unknown. Use the configuration of the training run."]
        lines = [f"The weights in {source} are of another model."]
        lines += [f"  {line}" for line in summary]
        lines += [f"Probable cause: {cause}" for cause in causes]
        raise CheckpointError("\n".join(lines))
    model.load_state_dict(state, assign=assign)


def _summarize(title: str, keys: list[str], own: State, state: State) -> str:
    """Summarize a kind of difference: counts by part of the model, and an example."""
    parts: dict[str, int] = {}
    for key in keys:
        parts[part_of(key)] = parts.get(part_of(key), 0) + 1
    shown = [f"{part} ({count})" for part, count in list(parts.items())[:MAX_PARTS]]
    if len(parts) > MAX_PARTS:
        shown.append(f"and {len(parts) - MAX_PARTS} more parts")
    example = keys[0]
    if title == "with another shape":
        example += f" {list(state[example].shape)} instead of {list(own[example].shape)}"
    grouped = "" if len(keys) == 1 else f"{', '.join(shown)}; such as "
    return f"{len(keys)} {title}: {grouped}{example}"


def part_of(key: str) -> str:
    """Return the part of a model that a key belongs to; all layers are one part."""
    names = key.split(".")
    if key.startswith(_PROVIDER):
        return ".".join(names[:3])
    if key.startswith("transformer.layers."):
        return f"transformer.layers.*.{names[3]}"
    return names[0]


def probable_causes(own: State, state: State) -> tp.Iterator[str]:
    """Yield settings that explain the difference, the most probable first."""
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            yield f"each key begins with {prefix!r}. Remove this prefix and save again."
            return
    if "emb.0.weight" not in own or "emb.0.weight" not in state:
        yield from _kind_causes(own, state)
        return
    yield from _size_causes(own, state)
    yield from _conditioner_causes(own, state)
    yield from _switch_causes(own, state)


def _kind_causes(own: State, state: State) -> tp.Iterator[str]:
    if any(".lora_" in key for key in state):
        yield (
            "the file is an adapter without its base model. Use the checkpoint.th beside it, which "
            "has the merged weights."
        )
        return
    kinds = {"a language model": "emb.", "a native EnCodec": "encoder.model."}
    kinds |= {"a spectral tokenizer": "components"}
    for name, prefix in kinds.items():
        if _any(state, prefix) and not _any(own, prefix):
            yield f"the file is {name}, which is another kind of model."
    if _any(state, "decoder.model.decoder."):
        yield "the file is in the format of transformers. Use the state_dict.bin beside it."


def _size_causes(own: State, state: State) -> tp.Iterator[str]:
    theirs, ours = size_of(state), size_of(own)
    if theirs != ours:
        scale = SCALES.get(theirs)
        remedy = f"model/lm/model_scale={scale}"
        if scale is None:
            remedy = f"transformer_lm.dim={theirs[0]} transformer_lm.num_layers={theirs[1]}"
        yield (
            f"model_scale. The file has width {theirs[0]} and {theirs[1]} layers, the "
            f"configuration {ours[0]} and {ours[1]}. Set {remedy}."
        )
    for name, read in (("n_q", _num_codebooks), ("card", _cardinality)):
        if read(state) != read(own):
            yield (
                f"transformer_lm.{name}. It is {read(state)} in the file and {read(own)} in the "
                "configuration. Use the tokenizer that the weights were trained with."
            )


def size_of(state: State) -> tuple[int, int]:
    """Return the width and the number of layers of a language model."""
    numbers = (re.match(r"transformer\.layers\.(\d+)\.", key) for key in state)
    layers = max((int(number.group(1)) + 1 for number in numbers if number), default=0)
    return state["emb.0.weight"].shape[1], layers


def _num_codebooks(state: State) -> int:
    return sum(bool(re.fullmatch(r"emb\.\d+\.weight", key)) for key in state)


def _cardinality(state: State) -> int:
    return state["emb.0.weight"].shape[0] - 1


def _conditioner_causes(own: State, state: State) -> tp.Iterator[str]:
    theirs, ours = conditioners_of(state), conditioners_of(own)
    crossed = [_any(s, "transformer.layers.0.cross_attention.") for s in (state, own)]
    if theirs == ours and crossed[0] == crossed[1]:
        yield from _width_causes(own, state)
        return
    named = ", ".join(f"{name} ({kind})" for name, kind in theirs.items()) or "none"
    yield (
        f"conditioner. The conditioners in the file are {named}, fused by "
        f"{'cross attention' if crossed[0] else 'prepending'}; the configured ones are "
        f"{', '.join(ours) or 'none'}{' by cross attention' if crossed[1] else ''}. "
        f"Set conditioner={_choice(theirs)}."
    )


def conditioners_of(state: State) -> dict[str, str]:
    """Return the names of the conditioners with the kind that their keys indicate."""
    keys: dict[str, list[str]] = {}
    for key in state:
        if key.startswith(_PROVIDER):
            name, _, rest = key.removeprefix(_PROVIDER).partition(".")
            keys.setdefault(name, []).append(rest)
    return {name: _kind_of(rests) for name, rests in keys.items()}


def _kind_of(keys: list[str]) -> str:
    patterns = {
        "chroma": r"chroma\.",
        "style": r"rvq\.|batch_norm\.|transformer\.|embed\.bias|embed\.\d",
        "words": r"embed\.weight",
    }
    for kind, pattern in patterns.items():
        if any(re.match(pattern, key) for key in keys):
            return kind
    return "text"


def _choice(kinds: tp.Mapping[str, str]) -> str:
    """Return the file in config/conditioner with such conditioners."""
    if {"style", "words"} <= {*kinds.values()}:
        return "style2music_tiny"
    for kind, name in (
        ("style", "style2music"),
        ("chroma", "chroma2music"),
        ("text", "text2music"),
    ):
        if kind in kinds.values():
            return name
    return "none"


def _width_causes(own: State, state: State) -> tp.Iterator[str]:
    """Yield settings of conditioners in both, where widths or transformers differ."""
    for name, kind in conditioners_of(state).items():
        stacks = [_any(s, f"{_PROVIDER}{name}.transformer.") for s in (state, own)]
        if kind == "style" and stacks == [False, True]:
            full = f"conditioners.{name}.style.transformer_scale"
            yield f"{full}. The file has no style transformer. Set {full}=none."
            continue
        for setting, (layer, axis, values) in WIDTHS.items():
            key = f"{_PROVIDER}{name}.{layer}.weight"
            if setting.startswith(kind) and key in state and key in own:
                theirs, ours = state[key].shape[axis], own[key].shape[axis]
                if theirs != ours:
                    full = f"conditioners.{name}.{setting.removeprefix('text.')}"
                    yield (
                        f"{full}. {layer} has width {theirs} in the file and {ours} in the model. "
                        f"Set {full}={values.get(theirs, 'as in the file')}."
                    )


def _switch_causes(own: State, state: State) -> tp.Iterator[str]:
    """Yield switches that add keys to every layer."""
    switches = {
        "transformer_lm.bias_ff": "transformer.layers.0.linear1.bias",
        "transformer_lm.bias_attn": "transformer.layers.0.self_attn.in_proj_bias",
        "transformer_lm.bias_proj": "linears.0.bias",
        "transformer_lm.norm_first": "out_norm.weight",
        "transformer_lm.qk_layer_norm": "transformer.layers.0.self_attn.q_layer_norm.weight",
    }
    for setting, key in switches.items():
        if (key in state) != (key in own):
            yield f"{setting}. Set {setting}={str(key in state).lower()}, as in the file."


def _any(state: State, prefix: str) -> bool:
    return any(key.startswith(prefix) for key in state)
