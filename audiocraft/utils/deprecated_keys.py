"""Configuration keys of the original that have no meaning in this project, with the reason.

Released checkpoints contain them, so builders ignore them without a message. Any other unknown key
is an error.
"""

from fnmatch import fnmatchcase

# Dotted names; `*` matches anything. A name also covers every key below it.
DEPRECATED_KEYS: dict[str, str] = {
    "efficient_attention_backend": "attention always uses torch's efficient implementation",
    "transformer_lm.custom": "attention always uses torch's implementation",
    "transformer_lm.memory_efficient": "attention always uses torch's efficient implementation",
    "metrics.fad.tf": "FAD does not use TensorFlow",
    "conditioners.*.clap": "CLAP conditioning is out of scope",
    "dataset.joint_embed_attributes": "CLAP conditioning is out of scope",
}

# Choices in configuration groups, written `group=choice`.
DEPRECATED_CHOICES: dict[str, str] = {
    "conditioner=clapemb2music": "CLAP conditioning is out of scope",
    "model=lm/audiogen_lm": "AudioGen is out of scope",
    "solver=audiogen/*": "AudioGen is out of scope",
    "solver=jasco/*": "JASCO is out of scope",
    "dset=internal/*": "internal data sets are not public",
}


def deprecation_reason(key: str) -> str | None:
    """Return why a key or a choice (`group=choice`) is deprecated, or `None` if it is not."""
    for pattern, reason in (DEPRECATED_KEYS | DEPRECATED_CHOICES).items():
        if fnmatchcase(key, pattern) or fnmatchcase(key, f"{pattern}.*"):
            return reason
    return None
