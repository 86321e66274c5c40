"""Replays EnCodec: native models of small size, and state keys of released sizes."""

import torch

from audiocraft.models.builders import get_compression_model
from audiocraft.models.encodec import EncodecModel, InterleaveStereoCompressionModel
from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder
from audiocraft.quantization import ResidualVectorQuantizer

from ..configuration import compose_config
from ..deviations import deviation
from ..harness import adapter, assert_close

ATOL = 1e-4


def build(config):
    """Build from the recorded configuration; the codec has `causal` of its network."""
    seanet = config["seanet"]
    return EncodecModel(
        SEANetEncoder(**seanet, **config.get("encoder_only", {})),
        SEANetDecoder(**seanet, **config.get("decoder_only", {})),
        ResidualVectorQuantizer(**config["rvq"]),
        frame_rate=config["frame_rate"],
        sample_rate=config["sample_rate"],
        channels=seanet["channels"],
        causal=config["causal"],
        renormalize=config["renormalize"],
    )


def loaded(case):
    model = build(case.meta["config"]).eval()
    model.load_state_dict(case.state(), strict=True)
    return model


def check_mono(model, x, expected):
    codes, scale = model.encode(x)
    outputs = {"codes": codes, "audio": model.decode(codes, scale)}
    outputs["decoded_latent"] = model.decode_latent(codes)
    if scale is not None:
        outputs["scale"] = scale
        x_in = x / scale[:, :, None]
    else:
        x_in = x
    outputs["latent"] = model.encoder(x_in)
    result = model(x)
    outputs |= {"forward_audio": result.x, "forward_codes": result.codes}
    outputs |= {"bandwidth": result.bandwidth, "penalty": result.penalty}
    unknown = expected.keys() - outputs.keys()
    assert not unknown, f"recorded, but not replayed: {unknown}"
    for name, value in expected.items():
        assert_close(outputs[name], value, atol=ATOL)


def check_stereo(model, call, x, expected):
    stereo = InterleaveStereoCompressionModel(model, **call["args"])
    for name in ("num_codebooks", "frame_rate", "channels", "total_codebooks"):
        if name in call:
            assert getattr(stereo, name) == call[name]
    codes, scale = stereo.encode(x)
    assert_close(codes, expected["codes"])
    assert_close(stereo.decode(codes, scale), expected["audio"], atol=ATOL)


@adapter("encodec_")
@torch.no_grad()
def check(case, call):
    model, expected = loaded(case), case.outputs(call)
    x = case.inputs(call)["x"]
    if "per_timestep" in call["args"]:
        check_stereo(model, call, x, expected)
        return
    if "set_num_codebooks" in call["what"]:
        model.set_num_codebooks(expected["codes"].shape[1])
    check_mono(model, x, expected)


@deviation(
    "encodec_",
    lambda case, call: "per_timestep" in call["args"] and case.meta["config"]["renormalize"],
    "interleaved stereo took the scale of the wrong channel; ours gives each channel its own",
)
@torch.no_grad()
def check_scaled_stereo(case, call):
    model, x = loaded(case), case.inputs(call)["x"]
    stereo = InterleaveStereoCompressionModel(model, **call["args"])
    audio = stereo.decode(*stereo.encode(x))
    for channel in range(2):
        alone = model.decode(*model.encode(x[:, channel : channel + 1]))
        assert_close(audio[:, channel : channel + 1], alone, atol=ATOL)


@adapter("state_dict_keys_encodec")
def check_keys(case, call):
    for name, recorded in case.meta["models"].items():
        with torch.device("meta"):
            model = get_compression_model(compose_config(*recorded["overrides"]))
        shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
        assert shapes == recorded["shapes"], name
        assert list(shapes) == list(recorded["shapes"]), f"{name}: another order"
        assert len(shapes) == recorded["n_tensors"], name
        assert sum(p.numel() for p in model.parameters()) == recorded["n_parameters"], name
        for fact in ("frame_rate", "sample_rate", "channels", "cardinality", "num_codebooks"):
            assert getattr(model, fact) == recorded[fact], f"{name}: {fact}"
