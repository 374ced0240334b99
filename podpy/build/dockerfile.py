"""Dockerfiles: from their text to stages of instructions.

The language is that of the published Dockerfile reference with its behaviour
in BuildKit where the reference is silent.  Nothing here reads files, images or
the environment; a text that breaks the rules raises
:class:`~podpy.build.diagnostics.DockerfileError` and nothing else.

Where podpy differs from BuildKit on purpose: CMD and ENTRYPOINT with nothing after
them are errors, a trigger of ONBUILD is read when it is written, ``<<`` within
``$((…))`` is no heredoc, and lines may have any length.
"""

from __future__ import annotations

from podpy.build import grammar, lines
from podpy.build.diagnostics import DockerfileError, LintWarning, Location, Problem
from podpy.build.instructions import Arg, Instruction
from podpy.records import record


@record
class Stage:
    """A stage: ``name`` in lower case (empty: it has none), ``base`` and ``platform`` unexpanded.

    ``instructions`` are those after FROM; ``location`` and ``original`` are FROM's.
    """

    index: int
    base: str
    platform: str = ""
    name: str = ""
    instructions: tuple[Instruction, ...] = ()
    location: Location
    original: str
    comments: tuple[str, ...] = ()


@record
class Dockerfile:
    """A whole file.  ``arguments`` are the ARGs before the first FROM, which only FROM sees."""

    name: str
    lines: tuple[str, ...]
    syntax: str = ""
    escape: str = "\\"
    check: str = ""
    arguments: tuple[Arg, ...] = ()
    stages: tuple[Stage, ...]
    warnings: tuple[LintWarning, ...] = ()

    def error(
        self, reason: str, location: Location, *, at: str = "", hint: str = ""
    ) -> DockerfileError:
        """An error about these lines; the caret goes under ``at``."""
        shown = self.lines[location.first - 1 : location.last]
        return DockerfileError(reason, location=location, lines=shown, at=at, hint=hint)


def parse(text: str, name: str = "Dockerfile") -> Dockerfile:
    """A Dockerfile's text; ``name`` is what messages call the file."""
    source = lines.read(text, name)
    try:
        return _parsed(source)
    except DockerfileError as error:
        syntax = source.directives.get("syntax", "")
        if _is_foreign(syntax):
            error.hint = f"the file is written in the language {syntax}; podpy reads Dockerfiles"
        raise


def _is_foreign(syntax: str) -> bool:
    """Whether ``# syntax=`` names a frontend that is none of docker/dockerfile's, or a mirror."""
    image = syntax.partition(" ")[0].partition("@")[0].rpartition("/")[2].partition(":")[0]
    return image not in ("", "dockerfile", "dockerfile-upstream")


def _parsed(source: lines.Source) -> Dockerfile:
    arguments: list[Arg] = []
    stages: list[tuple[grammar.From, list[Instruction]]] = []
    for statement, instruction in _instructions(source):
        if isinstance(instruction, grammar.From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            problem = Problem(
                f"{instruction.word} before the first FROM",
                at=statement.word,
                hint="a Dockerfile begins with FROM; only ARG may come before it",
            )
            raise source.error(problem, statement.location)
    if not stages:
        location = Location(name=source.name)
        raise DockerfileError("no FROM in it", location=location, hint=_NO_STAGE)
    return Dockerfile(
        name=source.name,
        lines=source.lines,
        syntax=source.directives.get("syntax", ""),
        escape=source.escape,
        check=source.directives.get("check", ""),
        arguments=tuple(arguments),
        stages=tuple(_stage(index, *stage) for index, stage in enumerate(stages)),
        warnings=tuple(_gap(statement) for statement in source.statements if statement.gaps),
    )


_NO_STAGE = "a Dockerfile needs a base: FROM image, or FROM scratch"


def parse_one(text: str, name: str = "", *, escape: str = "\\") -> Instruction:
    """The one instruction that a text is: a trigger of ONBUILD, a ``--change``.

    ``name`` is what messages call the text.  FROM is refused.
    """
    source = lines.read(text, name or "instruction", escape=escape)
    found = tuple(_instructions(source))
    if len(found) != 1:
        reason = f"{text!a} is {len(found)} instructions" if found else "an empty instruction"
        raise DockerfileError(reason, location=Location(name=source.name))
    statement, instruction = found[0]
    if isinstance(instruction, grammar.From):
        raise source.error(
            Problem("FROM is not possible here", at=statement.word), statement.location
        )
    return instruction


def _instructions(source: lines.Source) -> tuple[tuple[lines.Statement, Instruction], ...]:
    found = []
    for statement in source.statements:
        try:
            found.append((statement, grammar.instruction(statement, escape=source.escape)))
        except Problem as problem:
            raise source.error(problem, statement.location) from None
    return tuple(found)


def _stage(index: int, begin: grammar.From, instructions: list[Instruction]) -> Stage:
    return Stage(
        index=index,
        base=begin.base,
        platform=begin.platform,
        name=begin.name.lower(),
        instructions=tuple(instructions),
        location=begin.location,
        original=begin.original,
        comments=begin.comments,
    )


def _gap(statement: lines.Statement) -> LintWarning:
    return LintWarning(
        rule="NoEmptyContinuation",
        message=f"empty lines within {statement.word.upper()}",
        location=statement.location,
    )
