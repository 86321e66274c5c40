"""The only place where a configuration becomes models.

Nodes keep the names that released checkpoints carry; here they become keyword arguments of the
classes they describe. A key that a class does not take is an error that names it.
"""

import dataclasses
import inspect
import typing as tp

import torch
from omegaconf import DictConfig, OmegaConf

from ..errors import ConfigError
from ..modules import codebooks_patterns as patterns
from ..modules import conditioners as cond
from ..modules.seanet import SEANetDecoder, SEANetEncoder, SEANetOptions
from ..modules.transformer import TransformerSpec
from ..quantization import ResidualVectorQuantizer
from ..utils.retired_keys import why_retired
from .encodec import CompressionModel, EncodecModel
from .lm import LMModel
from .pretrained import load_mert, load_musicnn, load_t5
from .spectral import SpectralTokenizer

Kwargs = dict[str, tp.Any]
LoadCodec = tp.Callable[[str], CompressionModel]

PATTERNS: dict[str, type[patterns.CodebooksPatternProvider]] = {
    "parallel": patterns.ParallelPatternProvider,
    "delay": patterns.DelayedPatternProvider,
    "unroll": patterns.UnrolledPatternProvider,
    "coarse_first": patterns.CoarseFirstPattern,
    "music_lm": patterns.MusicLMPattern,
}


def arguments(node: tp.Any, where: str, *takers: tp.Any, own: tp.Collection[str] = ()) -> Kwargs:
    """A configuration node as keyword arguments.

    Args:
        node: The node; `None` is an empty one.
        where: Its name, for the error.
        takers: The classes that share its keys.
        own: Parameters of theirs that the builder gives, not the configuration.

    Raises:
        ConfigError: A key that none of them takes; retired keys are left out in silence.
    """
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, resolve=True)
    kwargs: Kwargs = dict(node or {})
    kwargs = {key: value for key, value in kwargs.items() if not why_retired(f"{where}.{key}")}
    known: set[str] = set()
    for taker in takers:
        if dataclasses.is_dataclass(taker):
            known |= {field.name for field in dataclasses.fields(taker)}
        else:
            known |= set(inspect.signature(taker).parameters)
    known -= {"self", *own}
    for key in kwargs:
        if key not in known:
            raise ConfigError(
                f"{where}.{key} is not known. {where} takes: {', '.join(sorted(known))}."
            )
    return kwargs


def choice(options: tp.Mapping[str, tp.Any], name: str, where: str) -> tp.Any:
    """The option called `name`.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in options:
        raise ConfigError(
            f"{where} is {name!r}, which nobody builds. Choose one of: {', '.join(options)}."
        )
    return options[name]


# Tokenizers.


def get_encodec(cfg: DictConfig) -> CompressionModel:
    """The native EnCodec of the nodes `encodec`, `seanet` and `rvq`."""
    kwargs = arguments(cfg.encodec, "encodec", EncodecModel, _EncodecParts)
    for part, built in (("autoencoder", "seanet"), ("quantizer", "rvq")):
        choice({built: None}, kwargs.pop(part), f"encodec.{part}")
    seanet: Kwargs = dict(OmegaConf.to_container(cfg.seanet, resolve=True))  # type: ignore
    own = {side: seanet.pop(side, None) or {} for side in ("encoder", "decoder")}
    encoder = SEANetEncoder(**arguments(seanet | own["encoder"], "seanet", SEANetOptions))
    decoder = SEANetDecoder(
        **arguments(
            seanet | own["decoder"], "seanet", SEANetDecoder, SEANetOptions, own=["options"]
        )
    )
    quantizer = ResidualVectorQuantizer(
        dimension=encoder.dimension, **arguments(cfg.rvq, "rvq", ResidualVectorQuantizer)
    )
    frame_rate = kwargs["sample_rate"] / encoder.hop_length
    return EncodecModel(encoder, decoder, quantizer, frame_rate=frame_rate, **kwargs)


def get_spectral(cfg: DictConfig) -> CompressionModel:
    """The spectral tokenizer of the node `spectral`."""
    return SpectralTokenizer(**arguments(cfg.spectral, "spectral", SpectralTokenizer))


TOKENIZERS = {"encodec": get_encodec, "spectral": get_spectral}


@dataclasses.dataclass
class _EncodecParts:
    """Keys of the node `encodec` that choose its parts."""

    autoencoder: str = "seanet"
    quantizer: str = "rvq"


def get_compression_model(cfg: DictConfig) -> CompressionModel:
    """Build the tokenizer that `cfg.compression_model` names, without weights."""
    return choice(TOKENIZERS, cfg.compression_model, "compression_model")(cfg)


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


def get_condition_provider(cfg: DictConfig, load_codec: LoadCodec | None) -> cond.ConditionProvider:
    """One conditioner for every entry of the node `conditioners`."""
    built: dict[str, cond.BaseConditioner] = {}
    for name, node in (cfg.get("conditioners") or {}).items():
        kind = node.model
        build = choice(CONDITIONERS, kind, f"conditioners.{name}.model")
        unknown = set(node) - {"model", kind}
        if unknown:
            raise ConfigError(
                f"conditioners.{name}.{sorted(unknown)[0]} is not known beside model: {kind}."
            )
        built[str(name)] = build(node[kind], f"conditioners.{name}.{kind}", cfg, load_codec)
    return cond.ConditionProvider(built)


def _t5(node, where, cfg, load_codec) -> cond.T5Conditioner:
    kwargs = arguments(node, where, cond.T5Conditioner)
    return cond.T5Conditioner(output_dim=cfg.transformer_lm.dim, load=load_t5, **kwargs)


def _lut(node, where, cfg, load_codec) -> cond.LUTConditioner:
    kwargs = arguments(node, where, cond.LUTConditioner)
    return cond.LUTConditioner(output_dim=cfg.transformer_lm.dim, **kwargs)


def _style(node, where, cfg, load_codec) -> cond.StyleConditioner:
    kwargs = arguments(node, where, cond.StyleConditioner, own=("listener", "output_dim"))
    listener = choice(LISTENERS, str(kwargs.get("model_name")), f"{where}.model_name")
    return cond.StyleConditioner(
        listener(kwargs, load_codec), output_dim=cfg.transformer_lm.dim, **kwargs
    )


def _encodec_listener(style: Kwargs, load_codec: LoadCodec | None) -> cond.FeatureExtractor:
    if load_codec is None:
        raise ConfigError("model_name: encodec needs a way to load its codec (`load_codec`).")
    return cond.EncodecFeatures(load_codec(style["encodec_checkpoint"]), style["encodec_n_q"])


LISTENERS: dict[str, tp.Callable[[Kwargs, LoadCodec | None], cond.FeatureExtractor]] = {
    "mert": lambda style, load_codec: cond.MertFeatures(load_mert),
    "musicnn": lambda style, load_codec: cond.MusicnnFeatures(load_musicnn),
    "encodec": _encodec_listener,
}


def _chroma(node, where, cfg, load_codec) -> cond.ChromaStemConditioner:
    kwargs = arguments(node, where, cond.ChromaStemConditioner)
    with torch.device("cpu"):  # the filters are no weights: they are needed even on `meta`
        return cond.ChromaStemConditioner(output_dim=cfg.transformer_lm.dim, **kwargs)


CONDITIONERS = {"t5": _t5, "lut": _lut, "style": _style, "chroma_stem": _chroma}


def get_condition_fuser(cfg: DictConfig) -> cond.ConditionFuser:
    """What the node `fuser` says about where each condition goes."""
    node = tp.cast(Kwargs, OmegaConf.to_container(cfg.fuser, resolve=True))
    options = {
        key: node.pop(key)
        for key in ("cross_attention_pos_emb", "cross_attention_pos_emb_scale")
        if key in node
    }
    return cond.ConditionFuser(node, **options)


def get_condition_dropouts(cfg: DictConfig) -> list:
    """What is withheld in training: everything now and then, and each condition by itself."""
    node = OmegaConf.to_container(cfg.get("attribute_dropout") or OmegaConf.create({}))
    kinds = tp.cast(Kwargs, node)
    options = kinds.pop("args", None) or {}
    return [
        cond.ClassifierFreeGuidanceDropout(cfg.classifier_free_guidance.training_dropout),
        cond.AttributeDropout(kinds, **options),
    ]


# The language model.


def get_codebooks_pattern_provider(n_q: int, node: DictConfig) -> patterns.CodebooksPatternProvider:
    """How the codebooks of the node `codebooks_pattern` are laid out in time."""
    provider = choice(PATTERNS, node.modeling, "codebooks_pattern.modeling")
    where = f"codebooks_pattern.{node.modeling}"
    with torch.device("cpu"):  # its tables are no weights: they are needed even on `meta`
        return provider(n_q, **arguments(node.get(node.modeling), where, provider))


GIVEN = ("condition_provider", "fuser", "pattern_provider", "transformer")
GIVEN += ("d_model", "dim_feedforward", "max_period", "positional_scale")


def get_lm_model(cfg: DictConfig, load_codec: LoadCodec | None = None) -> LMModel:
    """Build the language model with its conditioners, without weights.

    Args:
        cfg: Configuration of a run, or the part of one that describes a model.
        load_codec: Loads the tokenizer that a style conditioner listens through, if it does.
    """
    choice({"transformer_lm": None}, cfg.lm_model, "lm_model")
    kwargs = arguments(
        cfg.transformer_lm, "transformer_lm", LMModel, TransformerSpec, _LMParts, own=GIVEN
    )
    kwargs.pop("two_step_cfg", None)  # how a model is used, not how it is built
    fuser = get_condition_fuser(cfg)
    kwargs["cross_attention"] = bool(fuser.names("cross")) or kwargs.get("cross_attention", False)
    kwargs["memory_efficient"] = True  # the key names of released weights
    return LMModel(
        condition_provider=get_condition_provider(cfg, load_codec),
        fuser=fuser,
        pattern_provider=get_codebooks_pattern_provider(kwargs["n_q"], cfg.codebooks_pattern),
        **kwargs,
    )


@dataclasses.dataclass
class _LMParts:
    """Keys of the node `transformer_lm` that neither class takes."""

    two_step_cfg: bool = False


def check_agreement(cfg: DictConfig, tokenizer: CompressionModel) -> None:
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
