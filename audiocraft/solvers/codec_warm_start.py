"""Warm start of a codec: weights of a released codec, an experiment or a file.

Codecs that transformers publishes are converted to our state keys. Released codecs come without
their discriminators; checkpoints of our own runs have them.
"""

import logging
import typing as tp

from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from ..errors import CheckpointError
from ..models import loaders
from ..models.codecs.base import CompressionModel
from ..models.codecs.wrappers import HFEncodecCompressionModel
from ..models.weights.checkpoint_config import read_checkpoint
from ..models.weights.encodec_conversion import native_encodec, native_settings
from ..models.weights.hub import hub_id
from ..models.weights.mismatch import load_matching_state
from ..utils.weight_files import read_torch_file
from .warm_start import flatten_settings

logger = logging.getLogger(__name__)

State = dict[str, tp.Any]
# Settings that decide about the shapes of the weights, or about what they mean.
ARCHITECTURE = ("seanet", "rvq.n_q", "rvq.bins", "encodec.causal", "encodec.renormalize")
ARCHITECTURE += ("spectral_codec", "compression_model", "sample_rate", "channels")
ADVERSARIES = "adv_losses"  # in a checkpoint of ours


class CodecSource(tp.NamedTuple):
    """Weights that a name stands for."""

    state: dict[str, Tensor]
    settings: dict[str, tp.Any]  # of the codec, flat; none with a file made by hand
    adversaries: State  # state of the discriminators, empty if there are none


def read_codec_source(name: str) -> CodecSource:
    """Read the weights of a codec, its settings, and its discriminators if it has some.

    Raises:
        CheckpointError: There is no such codec, or it cannot be trained further.
    """
    codec = loaders.load_compression_model(name)
    if isinstance(codec, HFEncodecCompressionModel):
        try:
            native = native_encodec(codec.model)
        except ValueError as error:
            raise CheckpointError(f"continue_from={name}: {error}") from error
        settings = flatten_settings(native_settings(codec.model.config), "")
        return CodecSource(native.state_dict(), _without_dot(settings), {})
    if not hasattr(codec, "quantizer") or not hasattr(codec, "encoder"):
        raise CheckpointError(
            f"continue_from={name} is a {type(codec).__name__}, which cannot be trained further. "
            "Give a native EnCodec, one that transformers publishes, or an experiment of "
            "solver=compression."
        )
    if hub_id(name) is not None:
        return CodecSource(codec.state_dict(), {}, {})
    path = loaders.find_model_file(name, loaders.COMPRESSION_FILES)
    _, config = read_checkpoint(path)
    settings = _without_dot(flatten_settings(config, ""))
    content = {} if path.suffix == ".safetensors" else read_torch_file(path)
    return CodecSource(codec.state_dict(), settings, content.get(ADVERSARIES) or {})


def load_codec_source(model: CompressionModel, source: CodecSource, cfg: DictConfig) -> None:
    """Load the weights of a source into the codec of a run.

    Raises:
        CheckpointError: The architectures differ; the message names the settings that do.
    """
    name = str(cfg.continue_from)
    differing = architecture_differences(source.settings, cfg)
    try:
        load_matching_state(model, source.state, name)
    except CheckpointError as error:
        if not differing:
            raise
        named = "; ".join(differing)
        raise CheckpointError(
            f"continue_from={name} has another architecture than this run. Settings that differ: "
            f"{named}. Set them as there, or choose another model."
        ) from error
    if differing:
        logger.warning("Settings differ from those of %s: %s.", name, "; ".join(differing))


def load_adversaries(adv_losses: nn.ModuleDict, source: CodecSource) -> list[str]:
    """Load the discriminators of a source, with the state of their optimizers.

    Returns:
        Names of the discriminators that the source lacks, or has in another shape.
    """
    missing = []
    for name, adversary in adv_losses.items():
        prefix = f"{name}."
        state = {k[len(prefix) :]: v for k, v in source.adversaries.items() if k.startswith(prefix)}
        if _shapes(state) == _shapes(adversary.state_dict()):
            adversary.load_state_dict(state)
        else:
            missing.append(name)
    return missing


def _shapes(state: tp.Mapping[str, tp.Any]) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in state.items() if isinstance(value, Tensor)}


def architecture_differences(settings: tp.Mapping[str, tp.Any], cfg: DictConfig) -> list[str]:
    """Architectural settings of a source that a run has otherwise, as short sentences."""
    differing = []
    for key, there in sorted(settings.items()):
        if not any(key == name or key.startswith(f"{name}.") for name in ARCHITECTURE):
            continue
        here = OmegaConf.select(cfg, key, default=None)
        here = OmegaConf.to_container(here, resolve=True) if OmegaConf.is_config(here) else here
        if here != there:
            differing.append(f"{key} is {there!r} there and {here!r} here")
    return differing


def _without_dot(settings: dict[str, tp.Any]) -> dict[str, tp.Any]:
    return {key.removeprefix("."): value for key, value in settings.items()}
