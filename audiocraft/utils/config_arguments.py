"""A configuration node becomes keyword arguments of the class that it describes.

In the configuration of a run a key that nobody takes is a mistake. In one that came with a file of
weights it is not: the file was written by another version, and its weights decide what fits.
"""

import inspect
import logging
import typing as tp

from omegaconf import OmegaConf

from ..errors import ConfigError
from .deprecated_keys import deprecation_reason

logger = logging.getLogger(__name__)

Kwargs = dict[str, tp.Any]
OnUnknown = tp.Callable[[str, tp.Collection[str]], None]


def reject_unknown_key(key: str, known: tp.Collection[str]) -> None:
    """Say that `key` is a mistake, and what would be right.

    Raises:
        ConfigError: Always.
    """
    where = key.rpartition(".")[0]
    raise ConfigError(f"{key} is not known. {where} takes: {', '.join(sorted(known))}.")


class IgnoredKeys:
    """Collects unknown keys instead of refusing them, to tell of all at once."""

    def __init__(self):
        self.keys: list[str] = []

    def __call__(self, key: str, known: tp.Collection[str]) -> None:
        self.keys.append(key)

    def tell(self, source: str) -> None:
        """Warn once, if there were any."""
        if self.keys:
            logger.warning(
                "The configuration in %s has keys that mean nothing here and are passed over: %s.",
                source,
                ", ".join(self.keys),
            )


def arguments(
    node: tp.Any,
    where: str,
    *takers: tp.Any,
    own: tp.Collection[str] = (),
    on_unknown: OnUnknown = reject_unknown_key,
) -> Kwargs:
    """A configuration node as keyword arguments.

    Args:
        node: The node; `None` is an empty one.
        where: Its name, for the error.
        takers: The classes that share its keys.
        own: Parameters of theirs that the builder gives, not the configuration.
        on_unknown: Told of each key that none of them takes, which is then left out; retired keys
            are left out in silence.

    Raises:
        ConfigError: A parameter without a default is missing, or `on_unknown` refuses a key.
    """
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, resolve=True)
    kwargs: Kwargs = dict(node or {})
    known, needed = parameters_of(takers)
    known, needed = known - set(own), needed - set(own)
    for key in list(kwargs):
        retired = bool(deprecation_reason(f"{where}.{key}"))
        if retired or key not in known:
            del kwargs[key]
        if not retired and key not in known:
            on_unknown(f"{where}.{key}", known)
    missing = sorted(needed - kwargs.keys())
    if missing:
        raise ConfigError(f"{where}.{missing[0]} is missing, and nothing else tells it.")
    return kwargs


def parameters_of(takers: tp.Iterable[tp.Any]) -> tuple[set[str], set[str]]:
    """Names of all the parameters of some classes, and of those that none gives a default."""
    known: set[str] = set()
    optional: set[str] = set()
    for taker in takers:
        for name, parameter in inspect.signature(taker).parameters.items():
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            known.add(name)
            if parameter.default is not parameter.empty:
                optional.add(name)
    return known, known - optional


def choice(options: tp.Mapping[str, tp.Any], name: str, where: str) -> tp.Any:
    """The option called `name`.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in options:
        raise ConfigError(
            f"{where} is {name!r}, which nobody builds. Choose one of: {', '.join(options)}."
        )
    return options[name]
