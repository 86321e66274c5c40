"""Discriminators: shapes, receptive fields, configuration."""

import pytest
import torch
from omegaconf import OmegaConf

from audiocraft.adversarial import MultiScaleDiscriminator, MultiScaleSTFTDiscriminator
from audiocraft.adversarial.builders import DISCRIMINATORS, get_adversary
from audiocraft.errors import ConfigError

from ..conftest import composed

SMALL = {
    "msstftd": {"filters": 4, "n_ffts": [256, 128], "hop_lengths": [64, 32]},
    "msd": {"filters": 4, "max_filters": 16},
    "mpd": {"filters": 2, "max_filters": 16},
}
SMALL["msstftd"]["win_lengths"] = [256, 128]


def build(name, **options):
    torch.manual_seed(0)
    return DISCRIMINATORS[name](**SMALL[name] | options)


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_sub_discriminator_returns_logits_and_feature_maps(name, channels):
    discriminator = build(name, in_channels=channels)
    logits, maps = discriminator(torch.randn(2, channels, 1501))
    assert len(logits) == len(maps) == discriminator.num_discriminators
    assert all(part.shape[:2] == (2, 1) for part in logits)
    assert all(m.shape[0] == 2 for part in maps for m in part)


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_items_of_a_batch_are_independent(name):
    discriminator = build(name).eval()
    x = torch.randn(2, 1, 1200)
    both, alone = discriminator(x)[0], discriminator(x[:1])[0]
    for one, other in zip(both, alone):
        torch.testing.assert_close(one[:1], other, atol=1e-4, rtol=1e-4)


def test_downsampling_halves_the_input_of_each_scale():
    discriminator = MultiScaleDiscriminator(**SMALL["msd"], downsample_factor=2)
    _, maps = discriminator(torch.randn(1, 1, 1024))
    assert [part[0].shape[-1] for part in maps] == [1024, 513, 257]


def test_clip_shorter_than_the_longest_transform_raises():
    with pytest.raises(ValueError, match="segment_duration"):
        build("msstftd")(torch.randn(1, 1, 200))


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_shipped_config_nodes_build(name):
    cfg = composed("solver=compression/debug")
    with torch.device("meta"):
        built = get_adversary(name, cfg)
    assert isinstance(built, DISCRIMINATORS[name])
    if name == "mpd":  # `kernel_size: 5`, `filter_scales: 4`
        convs = built.discriminators[0].convs
        assert [conv.conv.kernel_size[0] for conv in convs] == [5] * 5
        assert [conv.conv.out_channels for conv in convs] == [32, 128, 512, 1024, 1024]
        assert built.discriminators[0].conv_post.conv.kernel_size == (3, 1)


@pytest.mark.parametrize(
    ("name", "node", "key"),
    [
        ("mystery", {}, "mystery"),
        ("msd", {"depth": 3}, "msd.depth"),
        ("msd", {"kernel_sizes": [4, 3]}, "kernel_sizes"),
        ("msd", {"strides": [2]}, "strides"),
        ("msstftd", {"n_ffts": [256]}, "n_ffts"),
    ],
)
def test_invalid_setting_raises(name, node, key):
    with pytest.raises(ConfigError, match=key):
        get_adversary(name, OmegaConf.create({name: node}))


def test_state_keys_match_released_discriminators():
    keys = MultiScaleSTFTDiscriminator(**SMALL["msstftd"]).state_dict()
    assert "discriminators.0.spec_transform.window" in keys
    assert "discriminators.1.convs.1.conv.weight_g" in keys
