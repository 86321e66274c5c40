"""Lazy re-exports: names of a package that are imported when they are first used."""

import importlib
import typing as tp


def lazy_exports(package: str, sources: tp.Mapping[str, str]) -> tp.Callable[[str], tp.Any]:
    """Return a module-level `__getattr__` for the `__init__.py` of a package.

    Args:
        package: `__name__` of the package.
        sources: Origin of each name, `module:attribute`; `.module` is relative to the package.
    """

    def getattr_(name: str) -> tp.Any:
        if name not in sources:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = sources[name].partition(":")
        return getattr(importlib.import_module(module, package), attribute)

    return getattr_
