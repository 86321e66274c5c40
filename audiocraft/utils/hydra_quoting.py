"""Quoting for Hydra's override grammar: values of any content as `KEY=VALUE` arguments.

Unquoted, the grammar refuses letters outside ASCII, `=`, `,`, `#`, parentheses and quotes.

Grammar: https://hydra.cc/docs/advanced/override_grammar/basic/.
"""

import json
import re
import typing as tp

# Unquoted text that the grammar reads as the same string; what may be a number is not among it.
PLAIN = re.compile(r"/?[A-Za-z_][A-Za-z0-9_./-]*|/[A-Za-z0-9_./-]*")
KEYWORDS = {"null", "true", "false", "nan", "inf"}


def override(key: str, value: tp.Any) -> str:
    """Return the override `key=value`; a shell needs `shlex.quote` around it.

    Args:
        key: Dotted name of a setting.
        value: `None`, a bool, a number, a string, or a list or dictionary of these.

    Raises:
        TypeError: The value has another type.
    """
    return f"{key}={quoted(value)}"


def quoted(value: tp.Any) -> str:
    """Return a value as the override grammar reads it back, with quotes where they are needed.

    Raises:
        TypeError: The value has a type that a configuration cannot hold.
    """
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, str):
        is_plain = PLAIN.fullmatch(value) and value.lower() not in KEYWORDS
        return value if is_plain else quoted_string(value)
    if isinstance(value, tp.Mapping):
        return "{" + ", ".join(f"{key}: {quoted(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(quoted(item) for item in value) + "]"
    raise TypeError(f"{value!r} cannot be written as an override. Give text, a number or a list.")


def quoted_string(text: str) -> str:
    """Return text in single quotes, with escapes for Hydra's grammar and for interpolation."""
    text = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)  # for OmegaConf
    text = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", text)
    text = re.sub(r"\\+$", lambda match: match[0] * 2, text)
    return f"'{text}'"
