"""Statements to instructions: what each instruction takes, and what is said when it gets else."""

from __future__ import annotations

from podpy import records
from podpy.build import instructions as ins
from podpy.build import words
from podpy.build.diagnostics import Location, Problem, suggest
from podpy.model import HealthCheck
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from podpy.build.lines import Document, Statement


@record
class From(ins.Instruction):
    """``FROM``, which begins a stage; ``name`` is as written."""

    word = "FROM"
    location: Location
    original: str
    base: str
    platform: str = ""
    name: str = ""
    comments: tuple[str, ...] = ()


def instruction(statement: Statement, *, escape: str = "\\") -> ins.Instruction:
    """The instruction that a statement is.  Raises :class:`Problem`."""
    word = statement.word.upper()
    read = _INSTRUCTIONS.get(word)
    if read is None:
        hint = suggest(word, _INSTRUCTIONS) or "comments begin with #, heredocs with <<NAME"
        raise Problem(f"unknown instruction {statement.word!a}", at=statement.word, hint=hint)
    return read(_Arguments(statement, escape))


class _Arguments:
    """What stands after the word, and the ways to look at it."""

    def __init__(self, statement: Statement, escape: str) -> None:
        self.statement = statement
        self.word = statement.word.upper()
        self.rest = statement.rest
        self.escape = escape

    def place(self) -> dict[str, Any]:
        """The fields that all instructions have."""
        return {"location": self.statement.location, "original": self.statement.text}

    def needed(self, what: str, example: str) -> str:
        """The rest, which must not be empty."""
        if not self.rest:
            raise Problem(
                f"{self.word} needs {what}", at=self.statement.word, hint=f"e.g. {example}"
            )
        return self.rest

    def flags(self, *known: str) -> _Flags:
        """The flags, all of them among ``known``."""
        return _Flags(self.word, self.statement.flags, known)

    def documents(self) -> tuple[ins.Heredoc, ...]:
        return tuple(_heredoc(document) for document in self.statement.documents)


def _heredoc(document: Document) -> ins.Heredoc:
    return ins.Heredoc(
        name=document.name, content=document.content, expand=document.expand, chomp=document.chomp
    )


class _Flags:
    """The flags of one instruction, ``--name[=value]``."""

    def __init__(self, word: str, written: Iterable[str], known: tuple[str, ...]) -> None:
        self._word = word
        self._values: dict[str, list[str | None]] = {}
        for flag in written:
            name, equals, value = flag[2:].partition("=")
            if name not in known:
                raise self._unknown(flag, name, known)
            values = self._values.setdefault(name, [])
            if values and name not in ("mount", "device", "exclude"):
                raise Problem(f"{word} has the flag --{name} twice", at=f"--{name}")
            values.append(value if equals else None)

    def _unknown(self, flag: str, name: str, known: tuple[str, ...]) -> Problem:
        flags = " ".join(f"--{each}" for each in known)
        hint = suggest(f"--{name}", [f"--{each}" for each in known]) or (
            f"{self._word} has the flags {flags}" if known else f"{self._word} has no flags"
        )
        return Problem(f"{self._word} has no flag --{name}", at=flag.partition("=")[0], hint=hint)

    def all(self, name: str) -> tuple[str, ...]:
        """All values of a flag that can be repeated."""
        return tuple(self._text(name, value) for value in self._values.get(name, ()))

    def _text(self, name: str, value: str | None) -> str:
        if value is None:
            raise Problem(f"{self._word}: --{name} needs a value", at=f"--{name}",
                          hint=f"write --{name}=VALUE")  # fmt: skip
        return value

    def one(self, name: str) -> str:
        """The value of a flag, or an empty text."""
        values = self._values.get(name)
        return self._text(name, values[0]) if values else ""

    def switch(self, name: str) -> bool | None:
        """A flag that is true when given alone; ``None`` when it is not given."""
        if name not in self._values:
            return None
        value = self._values[name][0]
        if value is None or value.lower() == "true":
            return True
        if value.lower() == "false":
            return False
        raise Problem(f"{self._word}: --{name}={value!a} is neither true nor false", at=f"--{name}")


# --- stages and variables ----------------------------------------------------


def _from(given: _Arguments) -> From:
    flags = given.flags("platform")
    given.needed("an image", "FROM alpine:3 AS build")
    names = words.split_blanks(given.rest)
    if len(names) not in (1, 3) or (len(names) == 3 and names[1].lower() != "as"):
        at = names[1] if len(names) > 1 else names[0]
        raise Problem(
            "FROM takes an image and, after AS, a name", at=at, hint="e.g. FROM alpine:3 AS build"
        )
    name = names[2] if len(names) == 3 else ""
    if name and not _is_stage_name(name.lower()):
        raise Problem(
            f"{name!a} is no name for a stage", at=name,
            hint="a name begins with a letter and has letters, digits, - _ .",
        )  # fmt: skip
    return From(
        **given.place(), base=names[0], platform=flags.one("platform"), name=name,
        comments=given.statement.comments,
    )  # fmt: skip


def _is_stage_name(name: str) -> bool:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return name[0] in letters and not name.strip(f"{letters}0123456789-_.")


def _arg(given: _Arguments) -> ins.Arg:
    given.flags()
    text = given.needed("a name", "ARG VERSION=1.0")
    pairs: list[tuple[str, str | None]] = []
    for word in words.quoted_words(text, given.escape):
        name, equals, default = word.partition("=")
        if not name:
            raise Problem("ARG: no name before =", at=word)
        pairs.append((name, default if equals else None))
    return ins.Arg(**given.place(), pairs=tuple(pairs), comments=given.statement.comments)


def _pairs(given: _Arguments) -> tuple[ins.Pairs, bool]:
    """``key=value …``, or the old ``key value``, and whether it was the old."""
    given.flags()
    text = given.needed("key=value", f"{given.word} KEY=value")
    parts = words.quoted_words(text, given.escape)
    if not parts or "=" not in parts[0]:
        key, value = words.partition(text)
        if not value:
            raise Problem(
                f"{given.word} {key!a} has no value", at=key, hint=f"write {given.word} {key}=value"
            )
        return ((key, value),), True
    pairs = []
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise Problem(
                f"{given.word}: {part!a} is not key=value", at=part,
                hint="a value with blanks needs quotes",
            )  # fmt: skip
        pairs.append((key, value))
    return tuple(pairs), False


def _env(given: _Arguments) -> ins.Env:
    pairs, legacy = _pairs(given)
    return ins.Env(**given.place(), pairs=pairs, legacy=legacy)


def _label(given: _Arguments) -> ins.Label:
    pairs, legacy = _pairs(given)
    return ins.Label(**given.place(), pairs=pairs, legacy=legacy)


# --- commands ----------------------------------------------------------------


def _command(given: _Arguments) -> ins.Command:
    text = given.needed("a command", f'{given.word} ["program", "argument"]')
    exec_words = words.json_words(text)
    if exec_words is not None:
        return ins.Command(words=exec_words, exec_form=True)
    return ins.Command(text=text, heredocs=given.documents())


def _run(given: _Arguments) -> ins.Run:
    flags = given.flags("mount", "network", "security", "device")
    command = _command(given)
    if command.exec_form and not command.words:
        raise Problem("RUN [] starts nothing", at=given.rest)
    return ins.Run(
        **given.place(),
        command=command,
        mounts=tuple(ins.read_mount(text) for text in flags.all("mount")),
        network=_choice(flags, "network", "default", "none", "host"),
        security=_choice(flags, "security", "sandbox", "insecure"),
        devices=tuple(ins.read_device(text) for text in flags.all("device")),
    )


def _choice(flags: _Flags, name: str, *known: str) -> str:
    value = flags.one(name)
    if value and value not in known:
        hint = suggest(value, known) or f"known are {' '.join(known)}"
        raise Problem(f"RUN: unknown --{name}={value}", at=f"--{name}={value}", hint=hint)
    return value


def _cmd(given: _Arguments) -> ins.Cmd:
    given.flags()
    return ins.Cmd(**given.place(), command=_command(given))


def _entrypoint(given: _Arguments) -> ins.Entrypoint:
    given.flags()
    return ins.Entrypoint(**given.place(), command=_command(given))


def _shell(given: _Arguments) -> ins.Shell:
    given.flags()
    text = given.needed("a JSON list", 'SHELL ["/bin/bash", "-c"]')
    shell = words.json_words(text)
    if not shell:
        raise Problem("SHELL takes a JSON list", at=text, hint='e.g. SHELL ["/bin/bash", "-c"]')
    return ins.Shell(**given.place(), words=shell)


def _healthcheck(given: _Arguments) -> ins.Healthcheck:
    example = "HEALTHCHECK CMD curl -f http://localhost/"
    flags = given.flags("interval", "timeout", "start-period", "start-interval", "retries")
    kind, rest = words.partition(given.needed("CMD or NONE", example))
    if kind.upper() == "NONE":
        if rest or given.statement.flags:
            raise Problem("HEALTHCHECK NONE takes nothing else", at=rest or "--")
        return ins.Healthcheck(**given.place(), check=None)
    if kind.upper() != "CMD":
        raise Problem(f"HEALTHCHECK: unknown type {kind!a}", at=kind, hint="it is CMD or NONE")
    exec_words = words.json_words(rest)
    test = ("CMD-SHELL", rest) if exec_words is None else ("CMD", *exec_words)
    if not rest or exec_words == ():
        raise Problem("HEALTHCHECK CMD needs a command", at=kind, hint=f"e.g. {example}")
    check = HealthCheck(
        test=test,
        interval=_duration(flags, "interval"),
        timeout=_duration(flags, "timeout"),
        start_period=_duration(flags, "start-period"),
        start_interval=_duration(flags, "start-interval"),
        retries=_count(flags, "retries"),
    )
    return ins.Healthcheck(**given.place(), check=check)


_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}


def _duration(flags: _Flags, name: str) -> float:
    """Seconds of ``1m30s``; 0 when the flag is not given."""
    text = flags.one(name)
    if text in ("", "0"):
        return 0.0
    seconds = _seconds(text)
    if seconds is None or 0 != seconds < 0.001:
        least = "" if seconds is None else ": the least is 1ms"
        raise Problem(
            f"HEALTHCHECK: --{name}={text} is no duration{least}", at=f"--{name}",
            hint="e.g. 30s or 1m30s",
        )  # fmt: skip
    return seconds


def _seconds(text: str) -> float | None:
    total = 0.0
    rest = text.removeprefix("+")
    while rest:
        unit_at = len(rest) - len(rest.lstrip("0123456789."))
        number, rest = rest[:unit_at], rest[unit_at:]
        unit = rest[: len(rest) - len(rest.lstrip("nuµμmsh"))]
        rest = rest[len(unit) :]
        if unit not in _UNITS or not number.replace(".", "", 1).isdecimal() or len(number) > 18:
            return None
        total += float(number) * _UNITS[unit]
    return total


def _count(flags: _Flags, name: str) -> int:
    text = flags.one(name)
    if text.strip("0123456789") or len(text) > 9:
        raise Problem(f"HEALTHCHECK: --{name}={text} is not a count", at=f"--{name}")
    return int(text or "0")


# --- files -------------------------------------------------------------------


def _sources(given: _Arguments) -> dict[str, Any]:
    """The sources, heredocs among them, and the destination."""
    example = f"{given.word} file /directory/"
    text = given.needed("a source and a destination", example)
    paths = words.json_words(text)
    # A heredoc's word may have blanks in it; a NUL begins no path.
    marks = {f"\0{index}": each.mark for index, each in enumerate(given.statement.documents)}
    for placeholder, mark in marks.items():
        text = text.replace(mark, placeholder, 1)
    paths = tuple(words.split_blanks(text)) if paths is None else paths
    if len(paths) < 2:
        raise Problem(
            f"{given.word} needs a source and a destination", at=given.rest, hint=f"e.g. {example}"
        )
    if paths[-1] in marks:
        raise Problem(f"{given.word} cannot write to a heredoc", at=marks[paths[-1]])
    return {
        **given.place(),
        "sources": tuple(path for path in paths[:-1] if path not in marks),
        "destination": paths[-1],
        "heredocs": given.documents(),
    }


def _copy(given: _Arguments) -> ins.Copy:
    flags = given.flags("from", "chown", "chmod", "link", "parents", "exclude")
    from_ = flags.one("from")
    if "$" in from_:
        raise Problem(
            "COPY: --from takes no variables", at=f"--from={from_}",
            hint="name a stage with FROM, which takes them, and copy from that",
        )  # fmt: skip
    return ins.Copy(
        **_sources(given),
        from_=from_,
        chown=flags.one("chown"),
        chmod=flags.one("chmod"),
        link=bool(flags.switch("link")),
        parents=bool(flags.switch("parents")),
        exclude=flags.all("exclude"),
    )


def _add(given: _Arguments) -> ins.Add:
    flags = given.flags("chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack")
    return ins.Add(
        **_sources(given),
        chown=flags.one("chown"),
        chmod=flags.one("chmod"),
        link=bool(flags.switch("link")),
        exclude=flags.all("exclude"),
        checksum=flags.one("checksum"),
        keep_git_dir=flags.switch("keep-git-dir"),
        unpack=flags.switch("unpack"),
    )


# --- the configuration of the image ------------------------------------------


def _expose(given: _Arguments) -> ins.Expose:
    given.flags()
    text = given.needed("a port", "EXPOSE 80/tcp")
    return ins.Expose(**given.place(), ports=tuple(words.split_blanks(text)))


def _volume(given: _Arguments) -> ins.Volume:
    given.flags()
    text = given.needed("a path", "VOLUME /data")
    listed = words.json_words(text)
    paths = tuple(words.split_blanks(text)) if listed is None else listed
    if not paths or not all(path.strip() for path in paths):
        raise Problem("VOLUME needs a path", at=text, hint="e.g. VOLUME /data")
    return ins.Volume(**given.place(), paths=tuple(path.strip() for path in paths))


def _user(given: _Arguments) -> ins.User:
    given.flags()
    return ins.User(**given.place(), user=given.needed("a user", "USER name:group"))


def _workdir(given: _Arguments) -> ins.Workdir:
    given.flags()
    return ins.Workdir(**given.place(), path=given.needed("a path", "WORKDIR /app"))


def _stopsignal(given: _Arguments) -> ins.StopSignal:
    given.flags()
    return ins.StopSignal(**given.place(), signal=given.needed("a signal", "STOPSIGNAL SIGINT"))


def _maintainer(given: _Arguments) -> ins.Maintainer:
    given.flags()
    return ins.Maintainer(**given.place(), text=given.needed("a name", "MAINTAINER name"))


def _onbuild(given: _Arguments) -> ins.Onbuild:
    given.flags()
    text = given.needed("an instruction", "ONBUILD COPY . /src")
    word, flags, rest = words.command(text)
    if word.upper() in ("ONBUILD", "FROM", "MAINTAINER"):
        raise Problem(f"ONBUILD cannot have {word.upper()} as its instruction", at=text)
    # What the trigger says is wrong now rather than in somebody else's build.
    trigger = records.replace(given.statement, word=word, flags=flags, rest=rest, text=text)
    instruction(trigger, escape=given.escape)
    parts = (text, *(f"{part.content}{part.name}" for part in given.statement.documents))
    return ins.Onbuild(**given.place(), text="\n".join(parts))


_INSTRUCTIONS: dict[str, Callable[[_Arguments], ins.Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
