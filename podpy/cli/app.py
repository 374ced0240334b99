"""The Typer application: every command, its help, and what to say about a wrong line.

The adapters' signatures are the definition; their annotations name options of
:mod:`podpy.cli.options`.  :func:`build` turns them into a Typer application,
from which the table of the entry point, the shell completions and the manual
pages are made (:mod:`podpy.cli.compile`).
"""

from __future__ import annotations

import importlib
import inspect
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer
from typer._click.exceptions import (
    BadOptionUsage,
    ClickException,
    NoArgsIsHelpError,
    NoSuchOption,
)
from typer._completion_classes import completion_init
from typer.main import get_command

from podpy.cli import build_options, container_options, options, output
from podpy.cli.commands import COMMANDS, GROUPS, RUNNING
from podpy.cli.session import LOG_LEVELS, Session
from podpy.cli.syntax import Command, Group
from podpy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ABOUT = "Run and ship containers without root and without a daemon."
_GENERATED: dict[str, Callable[[], list[inspect.Parameter]]] = {
    "run.run": lambda: container_options.parameters(running=True),
    "run.create": lambda: container_options.parameters(running=False),
    "builds.build": build_options.parameters,
}


def run(words: Sequence[str]) -> int:
    """The exit code of ``podpy WORDS...``, parsed by Typer."""
    completion_init()
    application = get_command(build())
    try:
        code = application.main(list(words), prog_name="podpy", standalone_mode=False)
    except typer.Abort:
        return 130
    except NoArgsIsHelpError as request:
        output.line(request.ctx.get_help())
        return 0
    except ClickException as mistake:
        raise _explained(mistake) from None
    return code if isinstance(code, int) else 0


def _explained(mistake: Any) -> UsageError:
    """Typer's complaint in podpy's words, with what the user may have meant."""
    context = getattr(mistake, "ctx", None)
    where = context.command_path if context else "podpy"
    help_hint = f"see `{where} --help`"
    if isinstance(mistake, NoSuchOption):
        known = (
            [name for p in context.command.get_params(context) for name in p.opts]
            if context
            else []
        )
        name = mistake.option_name
        close = (
            get_close_matches(name, [n for n in known if n[:2] == "--"], 3)
            if name[:2] == "--"
            else []
        )
        return UsageError(f"unknown flag: {name}", hint=_meant(close) or help_hint)
    return UsageError(_complaint(mistake, where), hint=help_hint)


def _complaint(mistake: Any, where: str) -> str:
    """docker's and podman's words for what both of them refuse, Typer's for the rest."""
    text = str(mistake.format_message()).rstrip(".")
    if isinstance(mistake, BadOptionUsage) and text.endswith("requires an argument"):
        return f"flag needs an argument: {mistake.option_name}"
    parameters = mistake.ctx.command.params if getattr(mistake, "ctx", None) else []
    arguments = [each for each in parameters if each.param_type_name == "argument"]
    least = sum(each.required for each in arguments)
    if text.startswith("Missing argument"):
        exact = "exactly" if all(each.nargs == 1 for each in arguments) else "at least"
        return f'"{where}" requires {exact} {least} argument{"s" if least > 1 else ""}: {text}'
    if text.startswith("Got unexpected extra argument"):
        if not arguments:
            return f'"{where}" takes no arguments: {text[0].lower()}{text[1:]}'
        return f'"{where}" accepts at most {len(arguments)} arguments: {text[0].lower()}{text[1:]}'
    return text


def _meant(names: Sequence[str]) -> str:
    return f"did you mean {' or '.join(f'`{name}`' for name in names)}?" if names else ""


class _Root(Group):
    """The top level and, by inheritance, the groups: unknown commands get a suggestion."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            visible = [verb for verb, command in self.commands.items() if not command.hidden]
            close = get_close_matches(name, visible, 3, 0.5)
            raise UsageError(
                f"unknown command: {ctx.command_path} {name}",
                hint=_meant(close) or f"see `{ctx.command_path} --help`",
            )
        return super().resolve_command(ctx, args)


def build() -> typer.Typer:
    """The application with every command of :mod:`podpy.cli.commands`."""
    settings: dict[str, Any] = {"rich_markup_mode": None, "add_completion": False, "cls": _Root}
    application = typer.Typer(name="podpy", help=ABOUT, no_args_is_help=True, **settings)
    application.callback()(_root)
    groups = {"": application}
    for name, about in GROUPS.items():
        groups[name] = typer.Typer(name=name, help=about, no_args_is_help=True, **settings)
        application.add_typer(groups[name])
    shown: set[tuple[str, str]] = set()
    for target, paths in COMMANDS.items():
        callback = _callback(target)
        for path in paths:
            group, _, name = path.rpartition(" ")
            groups[group].command(
                name,
                cls=Command,
                options_metavar="[OPTIONS]",
                hidden=(group, target) in shown,
                context_settings={"allow_interspersed_args": target not in RUNNING},
            )(callback)
            shown.add((group, target))
    application.command("help", cls=Command)(_help)
    return application


def _callback(target: str) -> Callable[..., int]:
    """A function with the adapter's signature as Typer wants it, which calls the adapter."""
    module, function = target.split(".")
    adapter = getattr(importlib.import_module(f"podpy.cli.{module}"), function)
    given = inspect.signature(adapter).parameters
    needs_context = "ctx" in given
    if target in _GENERATED:
        parameters = _GENERATED[target]()
    else:
        parameters = [
            _resolved(parameter) for parameter in given.values() if parameter.name != "ctx"
        ]
    defaults = {parameter.name: parameter.default for parameter in parameters}

    def call(invocation: typer.Context, **values: Any) -> int:
        session: Session = invocation.obj
        plain = {name: _plain(value, defaults[name]) for name, value in values.items()}
        return session.call(module, function, needs_context, plain)

    first = inspect.Parameter(
        "invocation", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    typed = [p.replace(annotation=_listed(p.annotation)) for p in parameters]
    call.__signature__ = inspect.Signature([first, *typed])  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in (first, *typed)}
    call.__doc__ = adapter.__doc__
    call.__name__ = function
    call.target = (module, function, needs_context)  # type: ignore[attr-defined]
    return call


def _resolved(parameter: inspect.Parameter) -> inspect.Parameter:
    """A parameter whose annotation, ``opt.NAME``, is looked up in :mod:`podpy.cli.options`."""
    name = str(parameter.annotation).removeprefix("opt.")
    return parameter.replace(annotation=getattr(options, name), kind=inspect.Parameter.KEYWORD_ONLY)


def _listed(annotation: Any) -> Any:
    """Typer spells a repeated option ``list[str]``; adapters take tuples."""
    kind, *rest = get_args(annotation)
    return Annotated[list[str], rest[0]] if get_origin(kind) is tuple else annotation


def _plain(value: Any, default: Any) -> Any:
    if value is None:
        return () if default is inspect.Parameter.empty else default
    return tuple(value) if isinstance(value, list) else value


def _version(shown: bool) -> None:
    if shown:
        from podpy.version import VERSION

        output.line(f"podpy version {VERSION}")
        raise typer.Exit


def _root(
    invocation: typer.Context,
    *,
    root: Annotated[
        str,
        typer.Option("--root", metavar="DIRECTORY", help="Where images and containers are kept."),
    ] = "",
    runroot: Annotated[
        str, typer.Option("--runroot", metavar="DIRECTORY", help="Where sockets are kept.")
    ] = "",
    debug: Annotated[
        bool, typer.Option("--debug", "-D", help="Show tracebacks, like --log-level=debug.")
    ] = False,
    log_level: Annotated[
        str,
        typer.Option(
            "--log-level", metavar="LEVEL", help=f"What to tell: {', '.join(LOG_LEVELS)}."
        ),
    ] = "",
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-v",
            help="Print the version.",
            callback=_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    invocation.obj = Session(root=root, runroot=runroot, debug=debug, log_level=log_level)


def _help(
    invocation: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND...]")] = None,
) -> None:
    """Show the help of a command."""
    context: Any = invocation.parent
    for word in words or ():
        if not isinstance(context.command, Group):
            raise UsageError(f"{context.command_path} has no command {word}")
        name, command, _ = context.command.resolve_command(context, [word])
        context = type(context)(command, info_name=name, parent=context)
    output.line(context.get_help())
