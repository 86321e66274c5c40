import copy

import pytest
import torch
from torch import nn

from audiocraft.modules.conv import (
    NORMS,
    StreamableConv1d,
    StreamableConvTranspose1d,
    WeightNormConv1d,
    WeightNormConvTranspose1d,
    pad1d,
    pad_for_conv1d,
    unpad1d,
)

KINDS = [(WeightNormConv1d, nn.Conv1d), (WeightNormConvTranspose1d, nn.ConvTranspose1d)]


def scrambled(module):
    """The module with weights different from its initial ones."""
    for parameter in module.parameters():
        parameter.data.uniform_(0.5, 1.5)
    return module


@pytest.mark.parametrize(("ours", "plain"), KINDS)
def test_weight_norm_is_initialized_to_the_plain_convolution(ours, plain):
    torch.manual_seed(0)
    normed = ours(4, 6, 5, stride=2)
    torch.manual_seed(0)
    conv = plain(4, 6, 5, stride=2)
    x = torch.randn(2, 4, 30)

    torch.testing.assert_close(normed(x), conv(x))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize(("ours", "plain"), KINDS)
def test_weight_norm_equals_pytorch_with_its_old_state_keys(ours, plain):
    reference = scrambled(nn.utils.weight_norm(plain(4, 6, 5, stride=2)))
    normed = ours(4, 6, 5, stride=2)
    normed.load_state_dict(reference.state_dict(), strict=True)
    x = torch.randn(2, 4, 30)

    torch.testing.assert_close(normed(x), reference(x))
    assert set(dict(normed.named_parameters())) == {"weight_g", "weight_v", "bias"}


def test_copied_weight_norm_is_independent():
    conv = scrambled(WeightNormConv1d(2, 2, 3))
    copied = copy.deepcopy(conv)
    x = torch.randn(1, 2, 10)
    before = conv(x)

    torch.optim.SGD(copied.parameters(), lr=1.0).zero_grad()
    copied(x).sum().backward()
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter -= parameter.grad

    torch.testing.assert_close(conv(x), before)
    assert not torch.allclose(copied(x), before)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect", "replicate"])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 30])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (3, 1), (1, 4)])
def test_number_of_output_steps(causal, pad_mode, length, stride, dilation):
    conv = StreamableConv1d(2, 3, 6, stride, dilation, causal=causal, pad_mode=pad_mode)

    assert conv(torch.randn(1, 2, length)).shape == (1, 3, -(-length // stride))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (10, 5), (7, 1), (5, 2)])
def test_transposed_convolution_multiplies_the_steps(causal, kernel, stride):
    conv = StreamableConvTranspose1d(2, 3, kernel, stride, causal=causal)

    assert conv(torch.randn(1, 2, 9)).shape == (1, 3, 9 * stride)


def test_causal_convolution_is_causal():
    down = StreamableConv1d(1, 1, 8, 4, causal=True, pad_mode="constant", norm="weight_norm")
    up = StreamableConvTranspose1d(1, 1, 8, 4, causal=True)
    x = torch.randn(1, 1, 40)
    changed = x.clone()
    changed[..., 20:] += 1

    torch.testing.assert_close(down(changed)[..., :5], down(x)[..., :5])
    torch.testing.assert_close(up(down(changed))[..., :20], up(down(x))[..., :20])
    assert not torch.allclose(down(changed)[..., 5:], down(x)[..., 5:])


def test_trimming_less_on_the_right_shifts_the_output():
    right = StreamableConvTranspose1d(1, 1, 8, 4, causal=True, trim_right_ratio=1.0)
    left = StreamableConvTranspose1d(1, 1, 8, 4, causal=True, trim_right_ratio=0.0)
    left.load_state_dict(right.state_dict())
    x = torch.randn(1, 1, 10)

    torch.testing.assert_close(left(x)[..., :-4], right(x)[..., 4:])


def test_reflection_of_a_long_signal_equals_pytorch():
    x = torch.randn(2, 3, 20)

    expected = torch.nn.functional.pad(x, (4, 7), "reflect")
    torch.testing.assert_close(pad1d(x, (4, 7), "reflect"), expected)


def test_reflection_of_a_short_signal_pads_zeros_first():
    x = torch.tensor([[[1.0, 2.0]]])

    padded = pad1d(x, (3, 1), "reflect")

    assert padded.tolist() == [[[0.0, 0.0, 2.0, 1.0, 2.0, 0.0]]]


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_is_built_without_a_warning(norm):
    conv = StreamableConv1d(2, 4, 3, norm=norm)
    transposed = StreamableConvTranspose1d(4, 2, 4, 2, norm=norm)

    assert transposed(conv(torch.randn(2, 2, 10))).isfinite().all()


def test_group_norm_takes_its_arguments():
    conv = StreamableConv1d(2, 4, 3, norm="time_group_norm", norm_kwargs={"eps": 0.5})

    assert conv.conv.norm.eps == 0.5


def test_keys_are_those_of_released_checkpoints():
    conv = StreamableConv1d(2, 4, 3, norm="weight_norm")
    transposed = StreamableConvTranspose1d(2, 4, 4, 2, norm="weight_norm")

    assert set(conv.state_dict()) == {f"conv.conv.{k}" for k in ("weight_g", "weight_v", "bias")}
    assert transposed.state_dict()["convtr.convtr.weight_g"].shape == (2, 1, 1)


def test_unknown_norm_lists_the_supported_ones():
    with pytest.raises(ValueError, match="weight_norm"):
        StreamableConv1d(2, 4, 3, norm="batch")


def test_causal_time_norm_raises():
    with pytest.raises(ValueError, match="causal"):
        StreamableConv1d(2, 4, 3, norm="time_group_norm", causal=True)


@pytest.mark.parametrize(("ratio", "causal"), [(0.5, False), (1.5, True), (-0.1, True)])
def test_invalid_trim_ratio_raises(ratio, causal):
    with pytest.raises(ValueError, match="trim_right_ratio"):
        StreamableConvTranspose1d(2, 4, 4, 2, causal=causal, trim_right_ratio=ratio)


def test_constant_padding_has_a_value():
    assert pad1d(torch.zeros(1, 1, 2), (1, 2), value=3.0).tolist() == [[[3, 0, 0, 3, 3]]]


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
def test_unpad_inverts_pad(mode):
    x = torch.randn(2, 3, 5)
    assert torch.equal(unpad1d(pad1d(x, (4, 3), mode=mode), paddings=(4, 3)), x)


@pytest.mark.parametrize("paddings", [(-1, 0), (3, 3)])
def test_unpadding_more_than_the_signal_raises(paddings):
    with pytest.raises(ValueError, match="paddings="):
        unpad1d(torch.zeros(1, 1, 5), paddings)


@pytest.mark.parametrize("length", [1, 3, 8, 9, 10])
@pytest.mark.parametrize("padding_total", [0, 3])
def test_last_window_of_a_convolution_can_be_completed(length, padding_total):
    kernel_size, stride = 5, 3
    x = torch.randn(1, 1, length)
    padded = pad_for_conv1d(
        x=x, kernel_size=kernel_size, stride=stride, padding_total=padding_total
    )
    total = padded.shape[-1] + padding_total
    assert total >= kernel_size
    assert (total - kernel_size) % stride == 0
    assert padded.shape[-1] - length < max(stride, kernel_size)
    assert torch.equal(padded[..., :length], x)


def test_convolutions_take_groups_and_bias():
    conv = StreamableConv1d(4, 4, 3, groups=2, bias=False).conv.conv
    assert conv.weight.shape == (4, 2, 3)
    assert conv.bias is None
