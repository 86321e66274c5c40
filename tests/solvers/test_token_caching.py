import pytest
from omegaconf import OmegaConf

from audiocraft.errors import ConfigError
from audiocraft.models import builders
from audiocraft.modules.conditioners import ConditionProvider
from audiocraft.solvers.token_caching import style_clip_rate, write_token_cache
from tests.conftest import composed


def provider_of(conditioner):
    small = "transformer_lm={dim: 32, num_heads: 2, num_layers: 1, card: 400}"
    config = composed("solver=musicgen/musicgen_base_32khz", f"conditioner={conditioner}", small)
    del config.conditioners.description  # T5 would be downloaded
    config.fuser.prepend, config.fuser.cross = ["self_wav"], []
    return builders.get_lm_model(config).condition_provider


@pytest.mark.parametrize(
    ("conditioner", "rate"),
    [
        ("style2music", 24_000),  # MERT, below the model's own 32 kHz
        ("style2music_tiny", 16_000),  # MusiCNN
        ("chroma2music", 32_000),  # which only hears its own rate
    ],
)
def test_clips_are_kept_at_the_lowest_rate_that_will_do(conditioner, rate):
    assert style_clip_rate(provider_of(conditioner), 32_000) == rate


def test_where_nobody_listens_no_clips_are_kept():
    assert style_clip_rate(ConditionProvider({}), 32_000) == 0


def test_a_listener_never_asks_for_more_than_there_is():
    assert style_clip_rate(provider_of("style2music"), 16_000) == 16_000


MISTAKES = {
    "no folder": ({"path": None}, "set cache.path"),
    "a part that is not": ({"write_shard": 3, "write_num_shards": 2}, "write_shard is 3 of"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told(mistake, tmp_path):
    changes, message = MISTAKES[mistake]
    cache = {"path": str(tmp_path), "write_shard": 0, "write_num_shards": 1}
    config = OmegaConf.create({"cache": cache | changes})
    with pytest.raises(ConfigError, match=message):
        write_token_cache(config, ConditionProvider({}), "cpu")
