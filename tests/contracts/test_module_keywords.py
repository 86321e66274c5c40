"""Names of modules, quantization and optim that scripts import, each called by keyword."""

import pytest
import torch
from torch import nn

from audiocraft import modules, optim, quantization
from audiocraft.modules.codebooks_patterns import UnrolledPatternProvider
from audiocraft.modules.transformer import StreamingMultiheadAttention

TRANSFORMER = {
    "d_model": 16,
    "num_heads": 4,
    "num_layers": 1,
    "dim_feedforward": 32,
    "dropout": 0.0,
    "bias_ff": False,
    "bias_attn": False,
    "causal": True,
    "past_context": None,
    "custom": False,
    "memory_efficient": True,
    "attention_as_float32": True,
    "cross_attention": False,
    "layer_scale": 0.1,
    "positional_embedding": "rope",
    "max_period": 10_000.0,
    "positional_scale": 1.0,
    "xpos": False,
    "norm": "layer_norm",
    "norm_first": True,
    "activation": "gelu",
    "qk_layer_norm": True,
    "kv_repeat": 2,
    "checkpointing": "none",
}

SEANET = {
    "channels": 1,
    "dimension": 8,
    "n_filters": 2,
    "n_residual_layers": 1,
    "ratios": [2, 2],
    "activation": "ELU",
    "activation_params": {"alpha": 1.0},
    "norm": "weight_norm",
    "norm_params": {},
    "kernel_size": 7,
    "last_kernel_size": 7,
    "residual_kernel_size": 3,
    "dilation_base": 2,
    "causal": False,
    "pad_mode": "constant",
    "true_skip": True,
    "compress": 2,
    "lstm": 1,
    "disable_norm_outer_blocks": 0,
}


def signal(channels=4, length=12):
    return torch.randn(2, channels, length)


def test_convolutions():
    conv = {"in_channels": 4, "out_channels": 6, "kernel_size": 4, "stride": 2}
    options = {"norm": "weight_norm", "norm_kwargs": {}}
    x = signal()
    assert modules.NormConv1d(**conv, **options)(x).shape == (2, 6, 5)
    assert modules.NormConvTranspose1d(**conv, **options)(x).shape == (2, 6, 26)
    down = modules.StreamableConv1d(
        **conv,
        **options,
        dilation=1,
        groups=2,
        bias=False,
        causal=True,
        pad_mode="reflect",
    )
    assert down(x).shape == (2, 6, 6)
    up = modules.StreamableConvTranspose1d(**conv, **options, causal=True, trim_right_ratio=0.5)
    assert up(x).shape == (2, 6, 24)


def test_padding():
    x = signal()
    padded = modules.pad1d(x=x, paddings=(1, 2), mode="constant", value=3.0)
    assert (padded[..., 0] == 3).all()
    assert torch.equal(modules.unpad1d(x=padded, paddings=(1, 2)), x)
    whole = modules.pad_for_conv1d(x=x, kernel_size=5, stride=3, padding_total=0)
    assert whole.shape[-1] == 14


def test_lstm_and_seanet():
    x = signal()
    assert modules.StreamableLSTM(dimension=4, num_layers=2, skip=True)(x).shape == x.shape
    wav = signal(1, 16)
    latent = modules.SEANetEncoder(**SEANET)(wav)
    decoder = modules.SEANetDecoder(
        **SEANET, final_activation="Tanh", final_activation_params=None, trim_right_ratio=1.0
    )
    assert decoder(latent).shape == wav.shape


def test_transformer_and_attention():
    x = torch.randn(2, 5, 16)
    assert modules.StreamingTransformer(**TRANSFORMER)(x).shape == x.shape
    attention = StreamingMultiheadAttention(
        embed_dim=16,
        num_heads=4,
        dropout=0.0,
        bias=True,
        causal=True,
        past_context=2,
        custom=True,
        memory_efficient=False,
        attention_as_float32=False,
        rope=None,
        cross_attention=False,
        qk_layer_norm=False,
        kv_repeat=1,
    )
    output, weights = attention(query=x, key=x, value=x)
    assert output.shape == x.shape
    assert weights is None
    torch.testing.assert_close(attention(x[:, :3])[0], output[:, :3])
    source = torch.randn(2, 7, 16)
    cross = StreamingMultiheadAttention(embed_dim=16, num_heads=4, cross_attention=True)
    assert cross(query=x, key=source, value=source)[0].shape == x.shape
    with pytest.raises(ValueError, match="cross_attention=True"):
        attention(query=x, key=source, value=source)


def test_patterns():
    provider = UnrolledPatternProvider(n_q=3, flattening=[0, 1, 1], delays=[0, 1, 1])
    pattern = provider.get_pattern(timesteps=4)
    assert pattern.n_q == 3
    assert pattern.valid_layout == pattern.layout[: -pattern.max_delay]
    assert pattern.num_sequence_steps == len(pattern.layout) - 1
    assert provider.num_virtual_steps(timesteps=4) == 9
    assert provider.get_pattern(timesteps=0).layout == [[]]


def test_schedulers_optimizer_and_average():
    parameter = nn.Parameter(torch.ones(3))
    optimizer = optim.DAdaptAdam(params=[parameter], lr=1.0, betas=(0.9, 0.95), weight_decay=0.1)
    schedulers = [
        optim.CosineLRScheduler(
            optimizer=optimizer, total_steps=10, warmup_steps=2, lr_min_ratio=0.0, cycle_length=1.0
        ),
        optim.InverseSquareRootLRScheduler(optimizer=optimizer, warmup_steps=2, warmup_init_lr=0.0),
        optim.LinearWarmupLRScheduler(optimizer=optimizer, warmup_steps=2, warmup_init_lr=0.0),
        optim.PolynomialDecayLRScheduler(
            optimizer=optimizer,
            warmup_steps=2,
            total_steps=10,
            end_lr=0.0,
            zero_lr_warmup_steps=1,
            power=1.0,
        ),
    ]
    parameter.sum().backward()
    optimizer.step()
    for scheduler in schedulers:
        scheduler.step()
        scheduler.load_state_dict(scheduler.state_dict())
    module = nn.Linear(1, 1)
    average = optim.ModuleDictEMA(
        module_dict={"model": module}, decay=0.9, unbias=True, device="cpu"
    )
    average.step()
    assert set(average.state["model"]) == set(module.state_dict())


def test_quantizers():
    x = signal()
    rvq = quantization.ResidualVectorQuantizer(
        dimension=4, n_q=2, q_dropout=False, bins=8, decay=0.99, kmeans_init=True, kmeans_iters=2
    )
    for quantizer in (rvq, quantization.DummyQuantizer()):
        assert isinstance(quantizer, quantization.BaseQuantizer)
        result = quantizer(x=x, frame_rate=50)
        assert isinstance(result, quantization.QuantizedResult)
        quantizer.eval()
        result = quantizer(x=x, frame_rate=50)
        assert torch.equal(quantizer.decode(codes=quantizer.encode(x=x)), result.x)
        assert torch.equal(quantizer.encode(x=x), result.codes)
        assert result.penalty == 0
        assert quantizer.num_codebooks == quantizer.total_codebooks
        quantizer.set_num_codebooks(1)
        assert quantizer.num_codebooks == 1
    assert torch.equal(result.x, x)
    assert result.codes.shape[1] == 1
    assert float(result.bandwidth) == pytest.approx(4 * 32 * 50 / 1000)
    with pytest.raises(ValueError, match="has 1"):
        quantization.DummyQuantizer().set_num_codebooks(2)
    with pytest.raises(TypeError, match="abstract"):
        quantization.BaseQuantizer()  # type: ignore[abstract]
