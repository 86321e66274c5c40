"""Token cache: clips are stored at the rate that the style conditioner needs."""

import pytest
from omegaconf import OmegaConf

from audiocraft.errors import ConfigError
from audiocraft.models import builders
from audiocraft.solvers.token_caching import style_clip_rate, write_token_cache
from tests.conftest import composed


def config(conditioner: str, sample_rate: int = 32_000):
    return composed(
        "solver=musicgen/musicgen_base_32khz",
        f"conditioner={conditioner}",
        f"sample_rate={sample_rate}",
    )


@pytest.mark.parametrize(
    ("conditioner", "rate"),
    [
        ("style2music", 24_000),  # MERT, below the model's own 32 kHz
        ("style2music_tiny", 16_000),  # MusiCNN
        ("chroma2music", 32_000),  # needs the model's own rate
        ("text2music", 0),
    ],
)
def test_clips_are_stored_at_the_lowest_rate_that_every_conditioner_accepts(conditioner, rate):
    assert style_clip_rate(config(conditioner)) == rate


def test_rate_of_clips_never_exceeds_that_of_the_data():
    assert style_clip_rate(config("style2music", 16_000)) == 16_000


def test_neither_a_language_model_nor_a_text_encoder_is_built(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("built")

    monkeypatch.setattr(builders, "get_lm_model", fail)
    monkeypatch.setattr(builders, "load_t5", fail)
    assert style_clip_rate(config("style2music")) == 24_000


MISTAKES = {
    "no folder": ({"path": None}, "cache.path"),
    "a shard out of range": ({"write_shard": 3, "write_num_shards": 2}, "cache.write_shard is 3"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_invalid_cache_settings_raise(mistake, tmp_path):
    changes, message = MISTAKES[mistake]
    cache = {"path": str(tmp_path), "write_shard": 0, "write_num_shards": 1}
    with pytest.raises(ConfigError, match=message):
        write_token_cache(OmegaConf.create({"cache": cache | changes}))
