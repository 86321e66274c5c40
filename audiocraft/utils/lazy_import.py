"""Lazy imports: packages whose names are imported when they are first used."""

import importlib
import typing as tp


def lazy_names(package: str, modules: tp.Mapping[str, str]) -> tp.Callable[[str], tp.Any]:
    """Build the `__getattr__` of a package.

    Args:
        package: Name of the package, its `__name__`.
        modules: Submodule that defines each name.
    """

    def getattr_(name: str) -> tp.Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return getattr_
