"""Configuration keys of released checkpoints that mean nothing here, each with the reason.

Builders leave them out in silence, since checkpoints carry them; every other key that nobody takes
is a mistake.
"""

from fnmatch import fnmatchcase

# A dotted name (`*` matches anything) retires the key and all that lies below it.
DEPRECATED_KEYS: dict[str, str] = {
    "efficient_attention_backend": "there is one attention, torch's, and it is efficient",
    "transformer_lm.custom": "there is one attention, torch's",
    "transformer_lm.memory_efficient": "there is one attention, torch's, and it is efficient",
    "metrics.fad.tf": "FAD needs no TensorFlow",
    "metrics.visqol": "ViSQOL needs a binary that nobody can install",
    "evaluate.metrics.visqol": "ViSQOL needs a binary that nobody can install",
    "conditioners.*.clap": "CLAP as a condition is out of scope",
    "dataset.joint_embed_attributes": "CLAP as a condition is out of scope",
}

# Choices of configuration groups, `group=choice`.
DEPRECATED_CHOICES: dict[str, str] = {
    "conditioner=clapemb2music": "CLAP as a condition is out of scope",
    "model=lm/audiogen_lm": "AudioGen is out of scope",
    "solver=audiogen/*": "AudioGen is out of scope",
    "solver=jasco/*": "JASCO is out of scope",
    "dset=internal/*": "these data sets are not public",
}


def deprecation_reason(key: str) -> str | None:
    """The reason why a key, or a choice written `group=choice`, is retired; `None` if it is not."""
    for pattern, reason in (DEPRECATED_KEYS | DEPRECATED_CHOICES).items():
        if fnmatchcase(key, pattern) or fnmatchcase(key, f"{pattern}.*"):
            return reason
    return None
