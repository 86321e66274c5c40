"""Entry point of experiments, for the commands that compose a run's configuration."""

from dora._utils import get_main
from dora.main import DecoratedMain

from ..environment import config_dir
from ..errors import ConfigError


def get_experiment() -> DecoratedMain:
    """Import `audiocraft.train` and return its Dora entry point.

    Raises:
        ConfigError: There is no configuration.
    """
    if not (config_dir() / "config.yaml").is_file():
        raise ConfigError(
            f"There is no config.yaml in {config_dir()}. Set AUDIOCRAFT_CONFIG to a copy of the "
            "repository's folder `config`, or unset it."
        )
    return get_main("train", "audiocraft")
