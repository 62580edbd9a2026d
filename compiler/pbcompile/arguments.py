"""How the words of the command line are read before click reads them."""

from __future__ import annotations

import click


class DefaultToCompile(click.Group):
    """`pbcompile SPEC` is `pbcompile compile SPEC`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `compile` in front when the first word is a file, not a command or an option."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["compile", *args]
        return super().parse_args(ctx, args)


class WordLists(click.Command):
    """`--against a b` is `--against a --against b`, for every option that may be repeated."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the option's name before each further word; the words end at the next option."""
        repeated = {name for param in self.params if getattr(param, "multiple", False) for name in param.opts}
        spread, option = [], ""
        for before, word in zip(["", *args], args, strict=False):
            if word.startswith("-"):
                option = word if word in repeated else ""
            elif option and before != option:
                spread.append(option)
            spread.append(word)
        return super().parse_args(ctx, spread)
