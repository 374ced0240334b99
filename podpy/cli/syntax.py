"""How Typer reads command lines here: docker's and podman's way with options (Go's pflag).

``--rm=false`` and ``-d=false`` set switches, ``-e=A`` is ``-e A``, and for
commands that run something the options end at the first argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer._click.exceptions import BadOptionUsage, NoSuchOption
from typer._click.parser import _OptionParser
from typer.core import TyperCommand, TyperGroup

from podpy.cli import parse

if TYPE_CHECKING:
    from typing import Any

    from typer._click.core import Context


class Parser(_OptionParser):
    """Typer's own parser, with values for switches and ``-x=value``."""

    def _match_long_opt(self, opt: str, explicit_value: str | None, state: Any) -> None:
        option = self._long_opt.get(opt)
        if option is not None and explicit_value is None and may_stand_alone(option.obj):
            explicit_value = parse.ALONE
        if option is None or option.takes_value or explicit_value is None:
            super()._match_long_opt(opt, explicit_value, state)
        else:
            self._switch(opt, option, explicit_value, state)

    def _match_short_opt(self, arg: str, state: Any) -> None:
        for position in range(1, len(arg)):
            name = f"-{arg[position]}"
            option = self._short_opt.get(name)
            if option is None:
                raise NoSuchOption(name, ctx=self.ctx)
            attached = arg[position + 1 :]
            if attached[:1] == "=" and len(attached) > 1:
                attached = attached[1:]
            elif not option.takes_value:
                option.process(None, state)
                continue
            if not option.takes_value:
                self._switch(name, option, attached, state)
                return
            if attached:
                state.rargs.insert(0, attached)
            option.process(self._get_value_from_state(name, option, state), state)
            return

    def _switch(self, name: str, option: Any, text: str, state: Any) -> None:
        try:
            state.opts[option.dest] = parse.truth(text)
        except ValueError:
            raise BadOptionUsage(
                name, f"{name}: {text!r} is neither true nor false", ctx=self.ctx
            ) from None
        state.order.append(option.obj)


def may_stand_alone(option: Any) -> bool:
    """An option whose value may be left out: its metavar begins as ``[=POLICY]`` does."""
    return (option.metavar or "").startswith("[=")


def _parser(command: Any, context: Any) -> Parser:
    parser = Parser(context)
    for parameter in command.get_params(context):
        parameter.add_to_parser(parser, context)
    return parser


class Command(TyperCommand):
    """A verb; ``-h`` asks for help unless an option of its own is called so."""

    def make_parser(self, ctx: Context) -> Parser:
        return _parser(self, ctx)

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """``[OPTIONS] IMAGE [COMMAND...]``, as docker and podman write it."""
        pieces = ["[OPTIONS]"]
        for parameter in self.params:
            if parameter.param_type_name == "argument":
                name = parameter.metavar or ""
                pieces.append(name if parameter.required else f"[{name}]")
        return pieces

    def get_help_option_names(self, ctx: Context) -> list[str]:
        taken = {name for parameter in self.params for name in parameter.opts}
        return [name for name in ("-h", "--help") if name not in taken]


class Group(TyperGroup):
    """A noun; without a verb it shows its help."""

    command_class = Command

    def make_parser(self, ctx: Context) -> Parser:
        return _parser(self, ctx)

    def get_help_option_names(self, ctx: Context) -> list[str]:
        return ["-h", "--help"]
