"""Exceptions for mistakes that the user can correct.

The command line prints their message without a traceback (`HYDRA_FULL_ERROR=1` shows it), so the
message must name the setting, its value, the accepted values and the way out. All of them are
`ValueError`s, so that library users can catch that class.
"""


class AudiocraftError(ValueError):
    """Base class of all errors that are printed without a traceback."""


class ConfigError(AudiocraftError):
    """A configuration value is unknown, out of range, or contradicts another one."""


class CheckpointError(AudiocraftError):
    """A file of weights is missing, truncated, corrupt, unsafe, or of another model."""


class ManifestError(AudiocraftError):
    """A dataset manifest or a metadata file cannot be used."""


class AudioError(AudiocraftError):
    """An audio file, or audio passed by the caller, cannot be used."""
