"""Make :mod:`podpy.cli.table` and the manual pages: ``python3 -m podpy.cli.compile``.

The entry point parses plain command lines with that table, so that they need
not wait for Typer.  What is made is checked in; a test proves that it is current.
"""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING, Any

from typer.main import get_command

from podpy import files
from podpy.cli import app, syntax

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER = '''"""The command line as data, made by ``python3 -m podpy.cli.compile``: do not edit.

See :mod:`podpy.cli.parse` for what the texts mean.
"""

# fmt: off
'''
_WIDTH = 84
_SKIPPED = ("version", "help")


def source() -> str:
    """The text of ``table.py`` for the application as it is."""
    root: Any = get_command(app.build())
    numbers: dict[str, int] = {}
    groups: dict[str, dict[str, int]] = {"": {}}
    for group, name, command in _commands(root):
        number = numbers.setdefault(_row(command), len(numbers))
        groups.setdefault(group, {})[name] = number
    lines = [_HEADER, f"SETTINGS = (\n{_wrapped(_options(root), 4)}\n)\n\nCOMMANDS = ("]
    lines += numbers
    lines.append(")\n\nGROUPS = {")
    for group, verbs in groups.items():
        body = ", ".join(f"{files.dumps(name)}: {number}" for name, number in verbs.items())
        lines += [f"    {files.dumps(group)}: {{", *_filled(body, 8), "    },"]
    lines.append("}\n")
    return "\n".join(lines)


def _filled(text: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(
        text, _WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False
    )


def _wrapped(text: str, indent: int) -> str:
    """A string constant over as many lines as it needs."""
    lines = _filled(text, 0) if len(text) > _WIDTH - indent else [text]
    spaced = [line + " " for line in lines[:-1]] + lines[-1:]
    return "\n".join(" " * indent + files.dumps(line) for line in spaced)


def _commands(root: Any) -> Iterator[tuple[str, str, Any]]:
    """Every leaf: its group ("" for the top level), its name and the command."""
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            yield from ((name, verb, leaf) for verb, leaf in command.commands.items())
        elif hasattr(command.callback, "target"):
            yield "", name, command


def _row(command: Any) -> str:
    module, function, context = command.callback.target
    interspersed = command.context_settings.get("allow_interspersed_args", True)
    head = f'        "{module}", "{function}", {context}, {interspersed},'
    texts = (_wrapped(_options(command), 8), _wrapped(_arguments(command), 8))
    return "\n".join(("    (", head, *(f"{text}," for text in texts), "    ),"))


def _options(command: Any) -> str:
    """``!all,-a,--all *filter,-f,--filter``: the syntax of :mod:`podpy.cli.parse`."""
    texts = []
    for parameter in command.params:
        if parameter.param_type_name != "option" or parameter.name in _SKIPPED:
            continue
        kind = "!" if parameter.is_flag else "*" if parameter.multiple else ""
        if syntax.may_stand_alone(parameter):
            kind = "?"
        if parameter.type.name.startswith("int"):
            kind = "#"
        texts.append(kind + ",".join((parameter.name, *parameter.opts)))
    return " ".join(texts)


def _arguments(command: Any) -> str:
    texts = []
    for parameter in command.params:
        if parameter.param_type_name != "argument":
            continue
        if parameter.nargs == 1:
            suffix = "" if parameter.required else "?"
        else:
            suffix = "+" if parameter.required else "*"
        texts.append(parameter.name + suffix)
    return " ".join(texts)


def main() -> None:
    from podpy.cli import manual, table

    here = os.path.abspath(table.__file__)
    files.write_atomic(here, source(), mode=0o644)
    directory = os.path.join(here.rpartition("/podpy/")[0], "man")
    files.make_directory(directory, 0o755)
    for name in files.list_directory(directory):
        files.unlink(os.path.join(directory, name))
    for name, text in manual.pages().items():
        files.write_atomic(os.path.join(directory, name), text, mode=0o644)


if __name__ == "__main__":
    main()
