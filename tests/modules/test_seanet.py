import pytest
import torch
from torch import nn

from audiocraft.modules.lstm import StreamableLSTM
from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder

TINY = {"dimension": 8, "n_filters": 4, "n_residual_layers": 2, "ratios": [4, 2]}


@pytest.mark.parametrize("length", [1, 7, 8, 9, 50])
@pytest.mark.parametrize("options", [{}, {"lstm": 1}, {"causal": True, "norm": "weight_norm"}])
def test_audio_is_encoded_to_whole_frames_and_decoded(length, options):
    encoder = SEANetEncoder(**TINY, **options)
    decoder = SEANetDecoder(**TINY, **options)
    num_frames = -(-length // encoder.hop_length)

    latent = encoder(torch.randn(2, 1, length))
    audio = decoder(latent)

    assert encoder.hop_length == decoder.hop_length == 8
    assert latent.shape == (2, 8, num_frames)
    assert audio.shape == (2, 1, num_frames * 8)


def test_causal_network_is_causal():
    options = TINY | {"causal": True, "lstm": 1, "pad_mode": "constant"}
    encoder, decoder = SEANetEncoder(**options), SEANetDecoder(**options)
    x = torch.randn(1, 1, 64)
    changed = x.clone()
    changed[..., 32:] += 1

    latent, latent_changed = encoder(x), encoder(changed)

    torch.testing.assert_close(latent_changed[..., :4], latent[..., :4])
    assert not torch.allclose(latent_changed[..., 4:], latent[..., 4:])
    torch.testing.assert_close(decoder(latent_changed)[..., :32], decoder(latent)[..., :32])


def norms_of(network):
    """Whether each convolution, in order, has a norm."""
    layers = [module for module in network.modules() if hasattr(module, "norm")]
    return [not isinstance(layer.norm, nn.Identity) for layer in layers]


def test_blocks_next_to_the_audio_can_have_no_norm():
    options = TINY | {"n_residual_layers": 1, "norm": "time_group_norm"}
    # first | block: two in the residual, one downsampling | block | last
    encoder = SEANetEncoder(**options, disable_norm_outer_blocks=2)
    assert norms_of(encoder) == [False, *[False] * 3, *[True] * 3, True]
    decoder = SEANetDecoder(**options, disable_norm_outer_blocks=2)
    assert norms_of(decoder) == [True, *[True] * 3, *[False] * 3, False]

    assert not any(norms_of(SEANetEncoder(**options, disable_norm_outer_blocks=4)))
    assert all(norms_of(SEANetDecoder(**options)))


def test_skip_connection_can_be_a_convolution():
    encoder = SEANetEncoder(**TINY, true_skip=False)

    assert "model.1.shortcut.conv.conv.weight" in encoder.state_dict()


def test_dilation_grows_with_each_residual_block():
    encoder = SEANetEncoder(**TINY, dilation_base=3)

    convs = [m for m in encoder.modules() if isinstance(m, nn.Conv1d) and m.kernel_size == (3,)]
    assert [conv.dilation for conv in convs] == [(1,), (3,)] * 2


def test_final_activation_bounds_the_audio():
    decoder = SEANetDecoder(
        **TINY, final_activation="Hardtanh", final_activation_params={"max_val": 0.01}
    )

    assert decoder(torch.randn(1, 8, 5)).max() <= 0.01


def test_lstm_adds_its_input():
    lstm = StreamableLSTM(4, num_layers=1)
    plain = StreamableLSTM(4, num_layers=1, skip=False)
    plain.load_state_dict(lstm.state_dict())
    x = torch.randn(2, 4, 9)

    torch.testing.assert_close(lstm(x), plain(x) + x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratios": []}, "ratios"),
        ({"ratios": [4, 0]}, "ratios"),
        ({"disable_norm_outer_blocks": 5}, "0 to 4"),
        ({"activation": "Elu"}, "torch.nn"),
        ({"activation": "init"}, "torch.nn"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        SEANetEncoder(**(TINY | options))
