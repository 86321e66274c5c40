"""Conversion of transformers' EnCodec to the trainable `EncodecModel`.

model = native_encodec(transformers.EncodecModel.from_pretrained("facebook/encodec_32khz"))
"""

import math
import typing as tp

from ...modules.seanet import SEANetDecoder, SEANetEncoder
from ...quantization import ResidualVectorQuantizer
from ..encodec import EncodecModel

if tp.TYPE_CHECKING:
    import transformers

# Replacements that turn our keys into those of transformers.
KEY_REPLACEMENTS = (
    (".model.", ".layers."),
    (".conv.conv.", ".conv."),
    (".convtr.convtr.", ".conv."),
    (".conv.norm.", ".norm."),
    (".convtr.norm.", ".norm."),
    (".weight_g", ".parametrizations.weight.original0"),
    (".weight_v", ".parametrizations.weight.original1"),
    ("quantizer.vq.", "quantizer."),
    ("._codebook.", ".codebook."),
)


def native_encodec(model: "transformers.EncodecModel") -> EncodecModel:
    """Return an `EncodecModel` with a copy of the weights, in eval mode.

    Raises:
        ValueError: The model encodes windows, or projects its latent before quantization.
    """
    config = model.config
    if config.chunk_length_s is not None or config.codebook_dim != config.hidden_size:
        raise ValueError(
            f"An EnCodec with chunk_length_s={config.chunk_length_s}, codebook_dim="
            f"{config.codebook_dim} and hidden_size={config.hidden_size} cannot be converted: it "
            "needs chunk_length_s=None and equal widths, like facebook/encodec_32khz and _24khz."
        )
    seanet = _seanet_options(config)
    hop_length = math.prod(config.upsampling_ratios)
    native = EncodecModel(
        SEANetEncoder(**seanet),
        SEANetDecoder(**seanet, trim_right_ratio=config.trim_right_ratio),
        ResidualVectorQuantizer(
            config.hidden_size, len(model.quantizer.layers), bins=config.codebook_size
        ),
        frame_rate=config.sampling_rate / hop_length,
        sample_rate=config.sampling_rate,
        channels=config.audio_channels,
        causal=config.use_causal_conv,
        renormalize=config.normalize,
    )
    state = model.state_dict()
    native.load_state_dict({key: state[transformers_key(key)] for key in native.state_dict()})
    return native.eval()


def native_settings(config: "transformers.EncodecConfig") -> dict[str, tp.Any]:
    """The settings of our configuration that describe a codec of transformers."""
    return {
        "sample_rate": config.sampling_rate,
        "channels": config.audio_channels,
        "seanet": _seanet_options(config),
        "rvq": {"bins": config.codebook_size},
        "encodec": {"causal": config.use_causal_conv, "renormalize": config.normalize},
    }


def transformers_key(key: str) -> str:
    """Return the key of transformers for one of ours."""
    for ours, theirs in KEY_REPLACEMENTS:
        key = key.replace(ours, theirs)
    return key


def _seanet_options(config: "transformers.EncodecConfig") -> dict[str, tp.Any]:
    return {
        "channels": config.audio_channels,
        "dimension": config.hidden_size,
        "n_filters": config.num_filters,
        "n_residual_layers": config.num_residual_layers,
        "ratios": config.upsampling_ratios,
        "norm": config.norm_type,
        "kernel_size": config.kernel_size,
        "last_kernel_size": config.last_kernel_size,
        "residual_kernel_size": config.residual_kernel_size,
        "dilation_base": config.dilation_growth_rate,
        "causal": config.use_causal_conv,
        "pad_mode": config.pad_mode,
        "true_skip": not config.use_conv_shortcut,
        "compress": config.compress,
        "lstm": config.num_lstm_layers,
    }
