"""Conversion of configuration nodes to keyword arguments.

The only converter from configuration to objects: every builder (`models`, `optim`, `solvers`, …)
calls `arguments` with the classes that a node describes, so that the accepted keys are the named
parameters of these classes.

Rules for values: a rule for the settings of one node is checked where the value is used, in the
constructor or `__post_init__` of its class, as a `ValueError` that names the parameter; the builder
adds the name of the node (`as_config_error`). A rule that relates several nodes of a run belongs in
`audiocraft/solvers/validation.py`.
"""

import contextlib
import inspect
import logging
import typing as tp

from omegaconf import OmegaConf

from ..errors import AudiocraftError, ConfigError
from .deprecated_keys import deprecation_reason

logger = logging.getLogger(__name__)

Kwargs = dict[str, tp.Any]
OnUnknown = tp.Callable[[str, tp.Collection[str]], None]  # (dotted key, accepted keys)


def reject_unknown_key(key: str, known: tp.Collection[str]) -> None:
    """`OnUnknown` for the configuration of a run, where an unknown key is an error.

    Raises:
        ConfigError: Always; lists the accepted keys.
    """
    node = key.rpartition(".")[0]
    raise ConfigError(f"{key} is not a setting. {node} accepts: {', '.join(sorted(known))}.")


class IgnoredKeys:
    """`OnUnknown` for configurations inside files of weights: collects keys for one warning.

    Such a file may come from another version; its weights determine what the model needs.
    """

    def __init__(self):
        self.keys: list[str] = []

    def __call__(self, key: str, known: tp.Collection[str]) -> None:
        self.keys.append(key)

    def log(self, source: str) -> None:
        """Warn once if there are ignored keys."""
        if self.keys:
            logger.warning(
                "Ignored unknown keys in the configuration of %s: %s.", source, ", ".join(self.keys)
            )


@contextlib.contextmanager
def as_config_error(node: str) -> tp.Iterator[None]:
    """Re-raise a `ValueError` of a constructor as a `ConfigError` that names the node.

    Raises:
        ConfigError: The block raised a `ValueError`.
    """
    try:
        yield
    except AudiocraftError:
        raise
    except ValueError as error:
        raise ConfigError(f"{node}: {error}") from error


def arguments(
    node: tp.Any,
    where: str,
    *classes: tp.Callable,
    provided: tp.Collection[str] = (),
    builder_keys: tp.Collection[str] = (),
    on_unknown: OnUnknown = reject_unknown_key,
) -> Kwargs:
    """Convert a configuration node to keyword arguments.

    Args:
        node: Configuration node; `None` is an empty one.
        where: Dotted name of the node, for errors.
        classes: Classes or functions whose parameters are the accepted keys.
        provided: Parameters that the builder passes; they are not accepted in the node.
        builder_keys: Further accepted keys, which the builder evaluates itself.
        on_unknown: Called with each unknown key; if it returns, the key is left out. Deprecated
            keys are left out without a call.

    Raises:
        ConfigError: A parameter without default is missing, or `on_unknown` rejects a key.
    """
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, resolve=True)
    kwargs: Kwargs = dict(node or {})
    known, required = parameters_of(classes)
    known = (known - set(provided)) | set(builder_keys)
    for key in list(kwargs):
        deprecated = bool(deprecation_reason(f"{where}.{key}"))
        if deprecated or key not in known:
            del kwargs[key]
        if not deprecated and key not in known:
            on_unknown(f"{where}.{key}", known)
    missing = sorted(required - set(provided) - kwargs.keys())
    if missing:
        raise ConfigError(f"{where}.{missing[0]} is required but missing. Set it in {where}.")
    return kwargs


def parameters_of(classes: tp.Iterable[tp.Callable]) -> tuple[set[str], set[str]]:
    """Return the names of all parameters of some classes, and of those without any default."""
    known: set[str] = set()
    optional: set[str] = set()
    for cls in classes:
        for name, parameter in inspect.signature(cls).parameters.items():
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            known.add(name)
            if parameter.default is not parameter.empty:
                optional.add(name)
    return known, known - optional


def choice(options: tp.Mapping[str, tp.Any], name: str, where: str) -> tp.Any:
    """Return the option called `name`.

    Raises:
        ConfigError: There is no such option.
    """
    if name not in options:
        raise ConfigError(
            f"{where}={name!r} is not supported. Supported: {', '.join(map(str, options))}."
        )
    return options[name]
