"""The only place where a configuration becomes models.

Nodes keep the names that released checkpoints carry; here they become keyword arguments of the
classes they describe. A key that a class does not take is an error that names it, unless the
caller says otherwise (`on_unknown`), as for configurations that came with weights.
"""

import contextlib
import dataclasses
import typing as tp

import torch
from omegaconf import DictConfig, OmegaConf

from ..errors import AudiocraftError, ConfigError
from ..modules import codebooks_patterns as patterns
from ..modules import conditioners as cond
from ..modules.seanet import SEANetDecoder, SEANetEncoder, SEANetOptions
from ..modules.transformer import TransformerSpec
from ..quantization import ResidualVectorQuantizer
from ..utils.config_arguments import Kwargs, OnUnknown, arguments, choice, reject_unknown_key
from .codecs.spectral import SpectralTokenizer
from .encodec import CompressionModel, EncodecModel
from .lm import LMModel
from .weights.pretrained import load_mert, load_musicnn, load_t5

LoadCodec = tp.Callable[[str], CompressionModel]

PATTERNS: dict[str, type[patterns.CodebooksPatternProvider]] = {
    "parallel": patterns.ParallelPatternProvider,
    "delay": patterns.DelayedPatternProvider,
    "unroll": patterns.UnrolledPatternProvider,
    "coarse_first": patterns.CoarseFirstPattern,
    "music_lm": patterns.MusicLMPattern,
}


@contextlib.contextmanager
def as_config_error(where: str) -> tp.Iterator[None]:
    """Tell what a class says against its arguments as an error of the node they come from.

    Raises:
        ConfigError: The class raised a `ValueError`.
    """
    try:
        yield
    except AudiocraftError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


# Tokenizers.


def get_encodec(cfg: DictConfig, on_unknown: OnUnknown = reject_unknown_key) -> CompressionModel:
    """The native EnCodec of the nodes `encodec`, `seanet` and `rvq`."""

    def read(node: tp.Any, where: str, *takers: tp.Any, own: tp.Collection[str] = ()) -> Kwargs:
        return arguments(node, where, *takers, own=own, on_unknown=on_unknown)

    built = ["encoder", "decoder", "frame_rate"]
    kwargs = read(cfg.encodec, "encodec", EncodecModel, _EncodecParts, own=built)
    for part, kind in (("autoencoder", "seanet"), ("quantizer", "rvq")):
        choice({kind: None}, kwargs.pop(part, kind), f"encodec.{part}")
    seanet: Kwargs = dict(OmegaConf.to_container(cfg.seanet, resolve=True))  # type: ignore
    sides = {side: seanet.pop(side, None) or {} for side in ("encoder", "decoder")}
    encoder = SEANetEncoder(**read(seanet | sides["encoder"], "seanet", SEANetOptions))
    decoder = SEANetDecoder(
        **read(seanet | sides["decoder"], "seanet", SEANetDecoder, SEANetOptions)
    )
    rvq = read(cfg.rvq, "rvq", ResidualVectorQuantizer, own=["dimension"])
    quantizer = ResidualVectorQuantizer(dimension=encoder.dimension, **rvq)
    frame_rate = kwargs["sample_rate"] / encoder.hop_length
    return EncodecModel(encoder, decoder, quantizer, frame_rate=frame_rate, **kwargs)


def get_spectral(cfg: DictConfig, on_unknown: OnUnknown = reject_unknown_key) -> CompressionModel:
    """The spectral tokenizer of the node `spectral`."""
    return SpectralTokenizer(
        **arguments(cfg.spectral, "spectral", SpectralTokenizer, on_unknown=on_unknown)
    )


TOKENIZERS = {"encodec": get_encodec, "spectral": get_spectral}


@dataclasses.dataclass
class _EncodecParts:
    """Keys of the node `encodec` that choose its parts."""

    autoencoder: str = "seanet"
    quantizer: str = "rvq"


def get_compression_model(
    cfg: DictConfig, on_unknown: OnUnknown = reject_unknown_key
) -> CompressionModel:
    """Build the tokenizer that `cfg.compression_model` names, without weights.

    Args:
        cfg: Configuration of a run, or the part of one that describes a tokenizer.
        on_unknown: What happens to a key that nobody takes.
    """
    return choice(TOKENIZERS, cfg.compression_model, "compression_model")(cfg, on_unknown)


def get_debug_compression_model(sample_rate: int = 32000) -> CompressionModel:
    """A very small EnCodec with random weights: 4 codebooks of 400 entries at 50 Hz."""
    seanet: Kwargs = {"dimension": 32, "n_filters": 4, "n_residual_layers": 1, "lstm": 1}
    ratios = [10, 8, 8]
    encoder = SEANetEncoder(ratios=ratios, **seanet)
    decoder = SEANetDecoder(ratios=ratios, **seanet)
    quantizer = ResidualVectorQuantizer(dimension=32, bins=400, n_q=4)
    return EncodecModel(
        encoder,
        decoder,
        quantizer,
        frame_rate=sample_rate / encoder.hop_length,
        sample_rate=sample_rate,
        channels=1,
    )


# Conditions.


@dataclasses.dataclass(frozen=True)
class BuildContext:
    """What conditioners are built from beside their own nodes."""

    width: int  # of the language model
    load_codec: LoadCodec | None
    on_unknown: OnUnknown


def get_condition_provider(
    cfg: DictConfig, load_codec: LoadCodec | None, on_unknown: OnUnknown = reject_unknown_key
) -> cond.ConditionProvider:
    """One conditioner for every entry of the node `conditioners`."""
    around = BuildContext(cfg.transformer_lm.dim, load_codec, on_unknown)
    built: dict[str, cond.BaseConditioner] = {}
    for name, node in (cfg.get("conditioners") or {}).items():
        where = f"conditioners.{name}"
        build = choice(CONDITIONERS, node.model, f"{where}.model")
        for key in sorted(set(node) - {"model", node.model}):
            on_unknown(f"{where}.{key}", ["model", node.model])
        with as_config_error(where):
            built[str(name)] = build(node[node.model], f"{where}.{node.model}", around)
    return cond.ConditionProvider(built)


def _read(node: tp.Any, where: str, taker: tp.Any, around: BuildContext, *own: str) -> Kwargs:
    kwargs = arguments(node, where, taker, own=("output_dim", *own), on_unknown=around.on_unknown)
    return kwargs | {"output_dim": around.width}


def _t5(node: tp.Any, where: str, around: BuildContext) -> cond.T5Conditioner:
    return cond.T5Conditioner(
        load=load_t5, **_read(node, where, cond.T5Conditioner, around, "load")
    )


def _lut(node: tp.Any, where: str, around: BuildContext) -> cond.LUTConditioner:
    return cond.LUTConditioner(**_read(node, where, cond.LUTConditioner, around))


def _style(node: tp.Any, where: str, around: BuildContext) -> cond.StyleConditioner:
    kwargs = _read(node, where, cond.StyleConditioner, around, "feature_extractor")
    feature_extractor = choice(
        FEATURE_EXTRACTORS, str(kwargs.get("model_name")), f"{where}.model_name"
    )
    return cond.StyleConditioner(feature_extractor(kwargs, around.load_codec), **kwargs)


def _encodec_features(style: Kwargs, load_codec: LoadCodec | None) -> cond.FeatureExtractor:
    if load_codec is None:
        raise ConfigError("model_name: encodec needs a way to load its codec (`load_codec`).")
    with torch.device("cpu"):  # a frozen codec has weights of its own, even on `meta`
        codec = load_codec(style["encodec_checkpoint"])
    return cond.EncodecFeatures(codec, style["encodec_n_q"])


FEATURE_EXTRACTORS: dict[str, tp.Callable[[Kwargs, LoadCodec | None], cond.FeatureExtractor]] = {
    "mert": lambda style, load_codec: cond.MertFeatures(load_mert),
    "musicnn": lambda style, load_codec: cond.MusicnnFeatures(load_musicnn),
    "encodec": _encodec_features,
}


def _chroma(node: tp.Any, where: str, around: BuildContext) -> cond.ChromaStemConditioner:
    with torch.device("cpu"):  # the filters are no weights: they are needed even on `meta`
        return cond.ChromaStemConditioner(**_read(node, where, cond.ChromaStemConditioner, around))


CONDITIONERS = {"t5": _t5, "lut": _lut, "style": _style, "chroma_stem": _chroma}


def get_condition_fuser(cfg: DictConfig) -> cond.ConditionFuser:
    """What the node `fuser` says about where each condition goes."""
    node = tp.cast(Kwargs, OmegaConf.to_container(cfg.fuser, resolve=True))
    options = {
        key: node.pop(key)
        for key in ("cross_attention_pos_emb", "cross_attention_pos_emb_scale")
        if key in node
    }
    with as_config_error("fuser"):
        return cond.ConditionFuser(node, **options)


def get_condition_dropouts(cfg: DictConfig) -> list:
    """What is withheld in training: everything now and then, and each condition by itself."""
    node = OmegaConf.to_container(cfg.get("attribute_dropout") or OmegaConf.create({}))
    kinds = tp.cast(Kwargs, node)
    options = kinds.pop("args", None) or {}
    with as_config_error("classifier_free_guidance.training_dropout"):
        everything = cond.ClassifierFreeGuidanceDropout(
            cfg.classifier_free_guidance.training_dropout
        )
    with as_config_error("attribute_dropout"):
        return [everything, cond.AttributeDropout(kinds, **options)]


# The language model.


def get_codebooks_pattern_provider(
    n_q: int, node: DictConfig, on_unknown: OnUnknown = reject_unknown_key
) -> patterns.CodebooksPatternProvider:
    """How the codebooks of the node `codebooks_pattern` are laid out in time."""
    provider = choice(PATTERNS, node.modeling, "codebooks_pattern.modeling")
    where = f"codebooks_pattern.{node.modeling}"
    kwargs = arguments(node.get(node.modeling), where, provider, own=["n_q"], on_unknown=on_unknown)
    # Its tables are no weights: they are needed even on `meta`.
    with torch.device("cpu"), as_config_error(where):
        return provider(n_q, **kwargs)


PROVIDED = ("condition_provider", "fuser", "pattern_provider")
PROVIDED += ("d_model", "dim_feedforward", "max_period", "positional_scale")


def get_lm_model(
    cfg: DictConfig, load_codec: LoadCodec | None = None, on_unknown: OnUnknown = reject_unknown_key
) -> LMModel:
    """Build the language model with its conditioners, without weights.

    Args:
        cfg: Configuration of a run, or the part of one that describes a model.
        load_codec: Loads the tokenizer that a style conditioner listens through, if it does.
        on_unknown: What happens to a key that nobody takes.
    """
    choice({"transformer_lm": None}, cfg.lm_model, "lm_model")
    takers = (LMModel, TransformerSpec, _LMParts)
    kwargs = arguments(
        cfg.transformer_lm, "transformer_lm", *takers, own=PROVIDED, on_unknown=on_unknown
    )
    kwargs.pop("two_step_cfg", None)  # how a model is used, not how it is built
    fuser = get_condition_fuser(cfg)
    kwargs["cross_attention"] = bool(fuser.names("cross")) or kwargs.get("cross_attention", False)
    kwargs["memory_efficient"] = True  # the key names of released weights
    provider = get_condition_provider(cfg, load_codec, on_unknown)
    for name in provider.conditioners:
        fuser.method(name)
    pattern = get_codebooks_pattern_provider(kwargs["n_q"], cfg.codebooks_pattern, on_unknown)
    with as_config_error("transformer_lm"):
        return LMModel(condition_provider=provider, fuser=fuser, pattern_provider=pattern, **kwargs)


@dataclasses.dataclass
class _LMParts:
    """Keys of the node `transformer_lm` that neither class takes."""

    two_step_cfg: bool = False


def check_tokenizer_matches(cfg: DictConfig, tokenizer: CompressionModel) -> None:
    """See that the tokenizer speaks what the language model and the data are told.

    Raises:
        ConfigError: They disagree; the message gives both values and the override that mends it.
    """
    lm = cfg.transformer_lm
    pairs = [
        ("transformer_lm.n_q", lm.n_q, tokenizer.num_codebooks, "codebooks"),
        ("transformer_lm.card", lm.card, tokenizer.cardinality, "entries per codebook"),
        ("sample_rate", cfg.sample_rate, tokenizer.sample_rate, "Hz"),
        ("channels", cfg.channels, tokenizer.channels, "channels"),
    ]
    for key, configured, actual, unit in pairs:
        if configured != actual:
            raise ConfigError(
                f"{key} is {configured} but the tokenizer {cfg.compression_model_checkpoint} has "
                f"{actual} {unit}. Set {key}={actual} or choose another "
                "compression_model_checkpoint."
            )
    for name, node in (cfg.get("conditioners") or {}).items():
        style = node.get("style")
        hop = round(tokenizer.sample_rate / tokenizer.frame_rate)
        if style and style.compute_mask and style.ds_rate_compression != hop:
            raise ConfigError(
                f"conditioners.{name}.style.ds_rate_compression is {style.ds_rate_compression} but "
                f"a frame of the tokenizer has {hop} samples. Set it to {hop}."
            )
