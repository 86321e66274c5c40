"""Argument parser shared by all commands: dashed option names and one help format."""

import argparse
import typing as tp


class HelpFormatter(argparse.HelpFormatter):
    """Appends the default value to the help of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        if not action.option_strings or "%(default)" in text or "[default" in text:
            return text
        if action.default in (None, False, True, argparse.SUPPRESS) or action.default == []:
            return text
        return f"{text} [default: %(default)s]".lstrip()


class CommandParser(argparse.ArgumentParser):
    """Parser of one command: `audiocraft NAME`.

    Options are declared as `--dashed-names`. Spellings with underscores are accepted as well, and
    so are the former names in `aliases`; neither appears in the help.

    Args:
        name: Name of the command.
        description: First sentences of the help.
        epilog: Last sentences of the help.
        aliases: Former name of an option, such as `--piece-field`, and its name today.
    """

    def __init__(
        self,
        name: str,
        description: str | None = None,
        epilog: str | None = None,
        aliases: tp.Mapping[str, str] | None = None,
    ):
        super().__init__(
            f"audiocraft {name}",
            description=description,
            epilog=epilog,
            formatter_class=HelpFormatter,
        )
        self.aliases = dict(aliases or {})

    def parse_known_args(  # type: ignore[override]
        self, args: tp.Any = None, namespace: tp.Any = None
    ) -> tp.Any:
        """Parse arguments; all other `parse_*` methods call this one."""
        if args is not None:
            args = self.with_current_names(args)
        return super().parse_known_args(args, namespace)

    def with_current_names(self, args: tp.Sequence[str]) -> list[str]:
        """Replace former spellings of options; what follows `--` is left alone."""
        end = list(args).index("--") if "--" in args else len(args)
        return [self._with_current_name(arg) for arg in args[:end]] + list(args[end:])

    def _with_current_name(self, arg: str) -> str:
        if not arg.startswith("--"):
            return arg
        name, equals, value = arg.partition("=")
        name = name.replace("_", "-")
        return self.aliases.get(name, name) + equals + value
