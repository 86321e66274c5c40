"""Mistakes that a user can mend, told in one sentence.

The command line prints them without a traceback (`HYDRA_FULL_ERROR=1` brings it back), so a
message carries everything: the value that is wrong, what would be right, how to get there.
All of them are `ValueError`s, so that library users may catch what Python taught them.
"""


class AudiocraftError(ValueError):
    """Base of every error that is shown to users without a traceback."""


class ConfigError(AudiocraftError):
    """A configuration names something unknown, or two of its values disagree."""


class CheckpointError(AudiocraftError):
    """A file of weights is missing, torn, of another model, or unsafe to read."""


class ManifestError(AudiocraftError):
    """A dataset manifest or a metadata file cannot be used."""


class AudioError(AudiocraftError):
    """An audio file, or audio given by the caller, cannot be used."""
