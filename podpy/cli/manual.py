"""The manual pages, made of the Typer application by ``python3 -m podpy.cli.compile``."""

from __future__ import annotations

from typing import Any

from typer.main import get_command

from podpy.cli import app, commands
from podpy.version import VERSION

_INTRODUCTION = """\
podpy runs OCI and docker images without root and without a daemon: it makes each container
itself, with user namespaces, and leaves a small supervisor beside it.  Its commands, options
and output are those of
.BR docker (1)
and
.BR podman (1).
Images, containers and volumes are files below
.IR $XDG_DATA_HOME/podpy .
"""
_CODES = (
    ("125", "podpy itself failed; a line beginning with \\(lqError:\\(rq says why"),
    ("126", "the command in the container cannot be invoked"),
    ("127", "the command in the container was not found"),
    ("other", "the exit code of the command; 128 and the signal's number when one ended it"),
)


def pages() -> dict[str, str]:
    """File name to text: ``podpy.1``, one page per command and a link per other spelling."""
    root: Any = get_command(app.build())
    context = _context(root, "podpy", None)
    made = {"podpy.1": _main_page(root, context)}
    for paths in commands.COMMANDS.values():
        command, inner = _find(root, context, paths[0])
        made[_file(paths[0])] = _page(paths, command, inner)
        for other in paths[1:]:
            made[_file(other)] = f".so man1/{_file(paths[0])}\n"
    return made


def _file(path: str) -> str:
    return f"podpy-{path.replace(' ', '-')}.1"


def _context(command: Any, name: str, parent: Any) -> Any:
    return command.context_class(command, info_name=name, parent=parent)


def _find(root: Any, context: Any, path: str) -> tuple[Any, Any]:
    command = root
    for word in path.split():
        command = command.commands[word]
        context = _context(command, word, context)
    return command, context


def _title(name: str) -> list[str]:
    # A fixed date: the page changes when the command line does.
    return [f'.TH "{name.upper()}" "1" "" "podpy {VERSION}" "User Commands"']


def _main_page(root: Any, context: Any) -> str:
    lines = _title("podpy")
    lines += [".SH NAME", f"podpy \\- {_text(root.help).rstrip('.').lower()}"]
    lines += [".SH SYNOPSIS", ".B podpy", "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARG\\fR...]"]
    lines += [".SH DESCRIPTION", _INTRODUCTION.rstrip(), ".SH OPTIONS", *_options(root, context)]
    lines.append(".SH COMMANDS")
    for name, command in root.commands.items():
        if not command.hidden:
            lines += [".TP", f"\\fB{_text(name)}\\fR", _text(command.get_short_help_str(200))]
    lines.append(".SH EXIT STATUS")
    for code, meaning in _CODES:
        lines += [".TP", code, meaning]
    return "\n".join(lines) + "\n"


def _page(paths: tuple[str, ...], command: Any, context: Any) -> str:
    name = f"podpy-{paths[0].replace(' ', '-')}"
    help_text = _text(command.help)
    lines = _title(name)
    lines += [".SH NAME", f"{_text(name)} \\- {help_text.rstrip('.')[:1].lower()}{help_text[1:-1]}"]
    lines.append(".SH SYNOPSIS")
    pieces = " ".join(_text(piece) for piece in command.collect_usage_pieces(context))
    for number, path in enumerate(paths):
        lines += [*([".br"] if number else []), f"\\fBpodpy {_text(path)}\\fR {pieces}"]
    lines += [".SH DESCRIPTION", help_text, ".SH OPTIONS", *_options(command, context)]
    lines += [".SH SEE ALSO", ".BR podpy (1)"]
    return "\n".join(lines) + "\n"


def _options(command: Any, context: Any) -> list[str]:
    lines: list[str] = []
    for parameter in command.get_params(context):
        if parameter.param_type_name == "option" and not parameter.hidden:
            spelled, text = parameter.get_help_record(context)
            lines += [".TP", f"\\fB{_text(spelled)}\\fR", _text(text)]
    return lines


def _text(text: str) -> str:
    """Plain text for roff: backslashes, minus signs and leading dots are not commands."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return "\\&" + text if text[:1] in (".", "'") else text
