"""Builders of models: the only place where configuration becomes models.

Configuration keys keep the names that released checkpoints contain; here they become keyword
arguments of the classes that the nodes describe. `utils/config_arguments.py` says where a rule for
a setting is added.
"""

import dataclasses
import typing as tp

import torch
from omegaconf import DictConfig, OmegaConf

from ..errors import ConfigError
from ..modules import codebooks_patterns as patterns
from ..modules import conditioners as cond
from ..modules.seanet import SEANetDecoder, SEANetEncoder
from ..quantization import ResidualVectorQuantizer
from ..utils.config_arguments import (
    Kwargs,
    OnUnknown,
    arguments,
    as_config_error,
    choice,
    reject_unknown_key,
)
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


# Tokenizers.


def get_encodec(cfg: DictConfig, on_unknown: OnUnknown = reject_unknown_key) -> CompressionModel:
    """Build the native EnCodec of the nodes `encodec`, `seanet` and `rvq`."""

    def read(node: tp.Any, where: str, *classes: tp.Any, **options: tp.Any) -> Kwargs:
        return arguments(node, where, *classes, on_unknown=on_unknown, **options)

    parts = {"autoencoder": "seanet", "quantizer": "rvq"}  # each has one implementation
    kwargs = read(
        cfg.encodec,
        "encodec",
        EncodecModel,
        provided=["encoder", "decoder", "frame_rate"],
        builder_keys=parts,
    )
    for part, kind in parts.items():
        choice({kind: None}, kwargs.pop(part, kind), f"encodec.{part}")
    seanet: Kwargs = dict(OmegaConf.to_container(cfg.seanet, resolve=True))  # type: ignore
    sides = {side: seanet.pop(side, None) or {} for side in ("encoder", "decoder")}
    encoder = SEANetEncoder(**read(seanet | sides["encoder"], "seanet", SEANetEncoder))
    decoder = SEANetDecoder(**read(seanet | sides["decoder"], "seanet", SEANetDecoder))
    rvq = read(cfg.rvq, "rvq", ResidualVectorQuantizer, provided=["dimension"])
    quantizer = ResidualVectorQuantizer(dimension=encoder.dimension, **rvq)
    frame_rate = kwargs["sample_rate"] / encoder.hop_length
    return EncodecModel(encoder, decoder, quantizer, frame_rate=frame_rate, **kwargs)


def get_spectral(cfg: DictConfig, on_unknown: OnUnknown = reject_unknown_key) -> CompressionModel:
    """Build the spectral tokenizer of the node `spectral`."""
    return SpectralTokenizer(
        **arguments(cfg.spectral, "spectral", SpectralTokenizer, on_unknown=on_unknown)
    )


TOKENIZERS = {"encodec": get_encodec, "spectral": get_spectral}


def get_compression_model(
    cfg: DictConfig, on_unknown: OnUnknown = reject_unknown_key
) -> CompressionModel:
    """Build the tokenizer that `cfg.compression_model` selects, with initial weights.

    Args:
        cfg: Configuration of a run, or the part of it that describes a tokenizer.
        on_unknown: Called with each unknown key.
    """
    return choice(TOKENIZERS, cfg.compression_model, "compression_model")(cfg, on_unknown)


def get_debug_compression_model(sample_rate: int = 32000) -> EncodecModel:
    """Build a very small EnCodec with random weights: 4 codebooks of size 400 at 50 Hz."""
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


# Conditioners.


@dataclasses.dataclass(frozen=True)
class BuildContext:
    """What conditioners are built from beside their own nodes."""

    width: int  # D, of the language model
    load_codec: LoadCodec | None
    on_unknown: OnUnknown

    def read(self, node: tp.Any, where: str, cls: type, *provided: str) -> Kwargs:
        """Convert the node of a conditioner to arguments, `output_dim` included."""
        kwargs = arguments(
            node, where, cls, provided=("output_dim", *provided), on_unknown=self.on_unknown
        )
        return kwargs | {"output_dim": self.width}


def get_condition_provider(
    cfg: DictConfig, load_codec: LoadCodec | None, on_unknown: OnUnknown = reject_unknown_key
) -> cond.ConditionProvider:
    """Build one conditioner for each entry of the node `conditioners`."""
    context = BuildContext(cfg.transformer_lm.dim, load_codec, on_unknown)
    built: dict[str, cond.BaseConditioner] = {}
    for name, node in (cfg.get("conditioners") or {}).items():
        where = f"conditioners.{name}"
        build = choice(CONDITIONERS, node.model, f"{where}.model")
        for key in sorted(set(node) - {"model", node.model}):
            on_unknown(f"{where}.{key}", ["model", node.model])
        with as_config_error(where):
            built[str(name)] = build(node[node.model], f"{where}.{node.model}", context)
    return cond.ConditionProvider(built)


def _t5(node: tp.Any, where: str, context: BuildContext) -> cond.T5Conditioner:
    return cond.T5Conditioner(load=load_t5, **context.read(node, where, cond.T5Conditioner, "load"))


def _lut(node: tp.Any, where: str, context: BuildContext) -> cond.LUTConditioner:
    return cond.LUTConditioner(**context.read(node, where, cond.LUTConditioner))


def _style(node: tp.Any, where: str, context: BuildContext) -> cond.StyleConditioner:
    kwargs = context.read(node, where, cond.StyleConditioner, "feature_extractor")
    get_extractor = choice(FEATURE_EXTRACTORS, str(kwargs.get("model_name")), f"{where}.model_name")
    return cond.StyleConditioner(get_extractor(kwargs, context.load_codec), **kwargs)


def _encodec_features(style: Kwargs, load_codec: LoadCodec | None) -> cond.FeatureExtractor:
    if load_codec is None:
        raise ConfigError("model_name=encodec needs `load_codec`, a function that loads its codec.")
    with torch.device("cpu"):  # the frozen codec has its own weights even if the model is on `meta`
        codec = load_codec(style["encodec_checkpoint"])
    return cond.EncodecFeatures(codec, style["encodec_n_q"])


FEATURE_EXTRACTORS: dict[str, tp.Callable[[Kwargs, LoadCodec | None], cond.FeatureExtractor]] = {
    "mert": lambda style, load_codec: cond.MertFeatures(load_mert),
    "musicnn": lambda style, load_codec: cond.MusicnnFeatures(load_musicnn),
    "encodec": _encodec_features,
}


def _chroma(node: tp.Any, where: str, context: BuildContext) -> cond.ChromaStemConditioner:
    with torch.device("cpu"):  # computed filters, no weights: needed even if the model is on `meta`
        return cond.ChromaStemConditioner(**context.read(node, where, cond.ChromaStemConditioner))


CONDITIONERS = {"t5": _t5, "lut": _lut, "style": _style, "chroma_stem": _chroma}


def get_condition_fuser(cfg: DictConfig) -> cond.ConditionFuser:
    """Build the fuser of the node `fuser`."""
    node = tp.cast(Kwargs, OmegaConf.to_container(cfg.fuser, resolve=True))
    options = {
        key: node.pop(key)
        for key in ("cross_attention_pos_emb", "cross_attention_pos_emb_scale")
        if key in node
    }
    with as_config_error("fuser"):
        return cond.ConditionFuser(node, **options)


def get_attribute_dropout(
    cfg: DictConfig, on_unknown: OnUnknown = reject_unknown_key
) -> cond.AttributeDropout:
    """Build the condition dropout of the node `attribute_dropout`."""
    node = OmegaConf.to_container(cfg.get("attribute_dropout") or OmegaConf.create({}))
    probabilities = tp.cast(Kwargs, node)
    where = "attribute_dropout"
    options = arguments(
        probabilities.pop("args", None),
        f"{where}.args",
        cond.AttributeDropout,
        provided=["p"],
        on_unknown=on_unknown,
    )
    for kind in sorted(probabilities.keys() - {"text", "wav"}):
        on_unknown(f"{where}.{kind}", ["args", "text", "wav"])
        del probabilities[kind]
    with as_config_error(where):
        return cond.AttributeDropout(probabilities, **options)


# Language model.


def get_codebooks_pattern_provider(
    n_q: int, node: DictConfig, on_unknown: OnUnknown = reject_unknown_key
) -> patterns.CodebooksPatternProvider:
    """Build the interleaving pattern of the node `codebooks_pattern`."""
    provider = choice(PATTERNS, node.modeling, "codebooks_pattern.modeling")
    where = f"codebooks_pattern.{node.modeling}"
    kwargs = arguments(
        node.get(node.modeling), where, provider, provided=["n_q"], on_unknown=on_unknown
    )
    # Its tables are no weights: needed even if the model is on `meta`.
    with torch.device("cpu"), as_config_error(where):
        return provider(n_q, **kwargs)


def get_lm_model(
    cfg: DictConfig,
    load_codec: LoadCodec | None = None,
    on_unknown: OnUnknown = reject_unknown_key,
) -> LMModel:
    """Build the language model with its conditioners, with initial weights.

    Args:
        cfg: Configuration of a run, or the part of it that describes a model.
        load_codec: Loads the codec of a style conditioner with `model_name: encodec`.
        on_unknown: Called with each unknown key.
    """
    choice({"transformer_lm": None}, cfg.lm_model, "lm_model")
    fuser = get_condition_fuser(cfg)
    guidance = cfg.get("classifier_free_guidance") or {}
    provided: Kwargs = {
        "fuser": fuser,
        "cfg_dropout": guidance.get("training_dropout", 0.0),
        "cfg_coef": guidance.get("inference_coef", 3.0),
        "attribute_dropout": get_attribute_dropout(cfg, on_unknown),
        "memory_efficient": True,  # gives the attention weights their released names
    }
    kwargs = arguments(
        cfg.transformer_lm,
        "transformer_lm",
        LMModel,
        provided=[*provided, "condition_provider", "pattern_provider", *NOT_CONFIGURABLE],
        on_unknown=on_unknown,
    )
    kwargs["cross_attention"] = bool(fuser.names("cross")) or kwargs.get("cross_attention", False)
    provider = get_condition_provider(cfg, load_codec, on_unknown)
    for name in provider.conditioners:
        fuser.method(name)
    pattern = get_codebooks_pattern_provider(kwargs["n_q"], cfg.codebooks_pattern, on_unknown)
    with as_config_error("transformer_lm"):
        return LMModel(pattern, provider, **provided, **kwargs)


def get_debug_models() -> tuple[EncodecModel, LMModel]:
    """Build a tiny tokenizer and a tiny language model, both with fixed random weights.

    The language model has text and style conditions, the latter with the bundled MusiCNN.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = get_debug_compression_model()
        tokenizer.quantizer.initialize(torch.randn(1, 32, 800))
        style = cond.StyleConditioner(
            cond.MusicnnFeatures(load_musicnn),
            output_dim=16,
            transformer_scale="none",
            ds_factor=12,
            bins=64,
        )
        if style.rvq is not None:
            style.rvq.initialize(torch.randn(1, style.dim, 256))
        text = cond.LUTConditioner(n_bins=64, dim=16, output_dim=16)
        lm = LMModel(
            patterns.DelayedPatternProvider(4),
            cond.ConditionProvider({"self_wav": style, "description": text}),
            cond.ConditionFuser({"prepend": ["self_wav", "description"]}),
            n_q=4,
            card=400,
            dim=16,
            num_heads=4,
            num_layers=2,
            dropout=0.0,
        )
        for linear in lm.linears:
            torch.nn.init.normal_(
                tp.cast(torch.nn.Linear, linear).weight
            )  # so that conditions change the tokens
        return tokenizer, lm


NOT_CONFIGURABLE = ("max_period", "positional_scale", "custom")  # as in released models


def check_tokenizer_matches(cfg: DictConfig, tokenizer: CompressionModel) -> None:
    """Check that the tokenizer fits the configuration of the language model and the data.

    Raises:
        ConfigError: They disagree; the message has both values and the override that fixes it.
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
                f"{key}={configured} but the tokenizer {cfg.compression_model_checkpoint} has "
                f"{actual} {unit}. Set {key}={actual} or choose another "
                "compression_model_checkpoint."
            )
    for name, node in (cfg.get("conditioners") or {}).items():
        style = node.get("style")
        hop = round(tokenizer.sample_rate / tokenizer.frame_rate)
        if style and style.compute_mask and style.ds_rate_compression != hop:
            raise ConfigError(
                f"conditioners.{name}.style.ds_rate_compression={style.ds_rate_compression} but a "
                f"frame of the tokenizer has {hop} samples. Set it to {hop}."
            )
