"""The instructions of a Dockerfile as records, and the expansion of their variables.

Fields hold what is written, quotes and variables included, until
:func:`resolve` has expanded them; instructions whose text is not subject to
expansion (``RUN``, ``CMD``, ``ENTRYPOINT``, ``SHELL`` …) hold their final words.
Every instruction has its ``location`` and its ``original`` text: continuation
lines joined, comments between them left out, heredocs not included.
"""

from __future__ import annotations

from podpy import records
from podpy.build import mount_flag, ports, variables, words
from podpy.build.diagnostics import DockerfileError, Location, Problem
from podpy.errors import UsageError
from podpy.kernel import signals
from podpy.model import HealthCheck
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeVar

    AnyInstruction = TypeVar("AnyInstruction", bound="Instruction")

Pairs = tuple[tuple[str, str], ...]


class Instruction:
    """What all instructions have; ``word`` is the upper-case name."""

    __slots__ = ()
    word = ""

    if TYPE_CHECKING:

        @property
        def location(self) -> Location: ...

        @property
        def original(self) -> str: ...


# --- parts -------------------------------------------------------------------


@record
class Heredoc:
    """An inline document; ``content`` is as written, with its line ends.

    ``expand``: the delimiter has no quotes, so variables in it count.
    ``chomp``: written ``<<-``, so leading tabs do not.
    """

    name: str
    content: str = ""
    expand: bool = True
    chomp: bool = False

    @property
    def body(self) -> str:
        """The content without the tabs that ``<<-`` takes away."""
        if not self.chomp:
            return self.content
        return "".join(line.lstrip("\t") for line in self.content.splitlines(keepends=True))


@record
class Command:
    """What RUN, CMD and ENTRYPOINT start: exec form (``words``) or shell form (``text``)."""

    words: tuple[str, ...] = ()
    text: str = ""
    heredocs: tuple[Heredoc, ...] = ()
    exec_form: bool = False

    @property
    def is_document(self) -> bool:
        """The command is one heredoc and nothing else: its body is what runs."""
        return len(self.heredocs) == 1 and words.heredoc_mark(self.text) is not None

    @property
    def script(self) -> str:
        """The text for the shell.

        One heredoc alone is the script itself (it may start with ``#!``, and
        then it is a program).  Otherwise the shell gets line and documents as
        they are written and reads them by its own rules.
        """
        if self.is_document:
            return self.heredocs[0].body
        documents = (f"{document.content}{document.name}" for document in self.heredocs)
        return "\n".join((self.text, *documents))


@record
class RunMount:
    """One ``RUN --mount``; ``text`` is what the flag says.

    Before :func:`resolve`, fields whose value holds a variable are unset and
    the combination of fields has not been checked.
    """

    text: str
    type: str = "bind"
    target: str = ""
    source: str = ""
    from_: str = ""
    id: str = ""
    sharing: str = ""
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int = 0
    env: str = ""
    required: bool = False
    readonly: bool = True


@record
class RunDevice:
    """One ``RUN --device``: a CDI name."""

    text: str
    name: str = ""
    required: bool = False


# --- instructions ------------------------------------------------------------


@record
class Arg(Instruction):
    """``ARG name[=default] …``; the default is ``None`` where none is given."""

    word = "ARG"
    location: Location
    original: str
    pairs: tuple[tuple[str, str | None], ...]
    comments: tuple[str, ...] = ()


@record
class Env(Instruction):
    """``ENV key=value …``; ``legacy`` when written ``ENV key value``."""

    word = "ENV"
    location: Location
    original: str
    pairs: Pairs
    legacy: bool = False


@record
class Label(Instruction):
    """``LABEL key=value …``; ``legacy`` when written ``LABEL key value``."""

    word = "LABEL"
    location: Location
    original: str
    pairs: Pairs
    legacy: bool = False


@record
class Maintainer(Instruction):
    """``MAINTAINER text``, which a label replaced long ago."""

    word = "MAINTAINER"
    location: Location
    original: str
    text: str


@record
class Run(Instruction):
    """``RUN``; ``network`` and ``security`` are empty where not given."""

    word = "RUN"
    location: Location
    original: str
    command: Command
    mounts: tuple[RunMount, ...] = ()
    network: str = ""
    security: str = ""
    devices: tuple[RunDevice, ...] = ()


@record
class Copy(Instruction):
    """``COPY``; ``heredocs`` are sources given inline, in their order, after ``sources``."""

    word = "COPY"
    location: Location
    original: str
    sources: tuple[str, ...]
    destination: str
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()


@record
class Add(Instruction):
    """``ADD``; ``unpack`` and ``keep_git_dir`` are ``None`` where the flag is not given."""

    word = "ADD"
    location: Location
    original: str
    sources: tuple[str, ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None


@record
class Cmd(Instruction):
    """``CMD``."""

    word = "CMD"
    location: Location
    original: str
    command: Command


@record
class Entrypoint(Instruction):
    """``ENTRYPOINT``."""

    word = "ENTRYPOINT"
    location: Location
    original: str
    command: Command


@record
class Expose(Instruction):
    """``EXPOSE``: ``port[-port][/protocol]``, resolved or not."""

    word = "EXPOSE"
    location: Location
    original: str
    ports: tuple[str, ...]


@record
class Volume(Instruction):
    """``VOLUME``."""

    word = "VOLUME"
    location: Location
    original: str
    paths: tuple[str, ...]


@record
class User(Instruction):
    """``USER user[:group]``."""

    word = "USER"
    location: Location
    original: str
    user: str


@record
class Workdir(Instruction):
    """``WORKDIR``; a relative path is relative to the one before."""

    word = "WORKDIR"
    location: Location
    original: str
    path: str


@record
class StopSignal(Instruction):
    """``STOPSIGNAL``: a name or a number."""

    word = "STOPSIGNAL"
    location: Location
    original: str
    signal: str


@record
class Shell(Instruction):
    """``SHELL``: the words before the text of shell forms."""

    word = "SHELL"
    location: Location
    original: str
    words: tuple[str, ...]


@record
class Healthcheck(Instruction):
    """``HEALTHCHECK``; ``None`` for ``NONE``.  A duration or count of 0 was not given."""

    word = "HEALTHCHECK"
    location: Location
    original: str
    check: HealthCheck | None


@record
class Onbuild(Instruction):
    """``ONBUILD``: the text of the trigger, with its heredocs; see ``dockerfile.parse_one``."""

    word = "ONBUILD"
    location: Location
    original: str
    text: str


# --- expansion ---------------------------------------------------------------


def resolve(
    instruction: AnyInstruction, values: Mapping[str, str], *, escape: str = "\\"
) -> AnyInstruction:
    """The instruction with its variables expanded and its quotes removed.

    Only the fields that the language expands change.  Raises
    :class:`DockerfileError`, e.g. for ``${name:?message}``.
    """
    return resolve_with(instruction, variables.Expander(values, escape=escape))


def resolve_with(instruction: AnyInstruction, expander: variables.Expander) -> AnyInstruction:
    """:func:`resolve` with an expander, which afterwards tells what was used and unset."""
    try:
        return records.replace(instruction, **_expanded(instruction, expander))
    except Problem as problem:
        raise DockerfileError.of(problem, instruction.location, (instruction.original,)) from None


def _expanded(instruction: Instruction, expander: variables.Expander) -> dict[str, object]:
    """The fields that change, by their names."""
    word = expander.word
    if isinstance(instruction, (Copy, Add)):
        return _expanded_copy(instruction, expander)
    if isinstance(instruction, Run):
        return {
            "mounts": tuple(read_mount(mount.text, word) for mount in instruction.mounts),
        }
    if isinstance(instruction, (Env, Label)):
        return {"pairs": tuple(_pair(instruction, pair, word) for pair in instruction.pairs)}
    if isinstance(instruction, Arg):
        return {
            "pairs": tuple(
                (name, None if default is None else word(default))
                for name, default in instruction.pairs
            )
        }
    if isinstance(instruction, Expose):
        found = tuple(p for port in instruction.ports for p in expander.words(port))
        for port in found:
            ports.keys(port)
        return {"ports": found}
    if isinstance(instruction, Volume):
        return {"paths": tuple(_path(path, word) for path in instruction.paths)}
    if isinstance(instruction, StopSignal):
        return {"signal": _signal(instruction.signal, word)}
    name = _SINGLE.get(instruction.word)
    return {name: word(getattr(instruction, name))} if name else {}


_SINGLE = {"USER": "user", "WORKDIR": "path"}


def _pair(
    instruction: Env | Label, pair: tuple[str, str], expand: mount_flag.Expand
) -> tuple[str, str]:
    key = expand(pair[0])
    if not key:
        raise Problem(f"{instruction.word}: the name {pair[0]!a} is empty", at=pair[0])
    return key, expand(pair[1])


def _path(text: str, expand: mount_flag.Expand) -> str:
    path = expand(text)
    if not path:
        raise Problem(f"VOLUME: the path {text!a} is empty", at=text)
    return path


def _signal(text: str, expand: mount_flag.Expand) -> str:
    name = expand(text)
    try:
        signals.number(name)
    except UsageError as error:
        raise Problem(f"STOPSIGNAL: {error.message}", at=text, hint=error.hint) from None
    return name


def _expanded_copy(instruction: Copy | Add, expander: variables.Expander) -> dict[str, object]:
    word = expander.word
    changed: dict[str, object] = {
        "sources": tuple(word(source) for source in instruction.sources),
        "destination": word(instruction.destination),
        "chown": word(instruction.chown),
        "chmod": word(instruction.chmod),
        "heredocs": tuple(
            records.replace(document, content=expander.document(document.body), chomp=False)
            if document.expand
            else document
            for document in instruction.heredocs
        ),
    }
    if isinstance(instruction, Add):
        changed["checksum"] = word(instruction.checksum)
    return changed


def read_mount(text: str, expand: mount_flag.Expand | None = None) -> RunMount:
    """``--mount``'s value; without ``expand`` what holds a variable is left for later."""
    return RunMount(text=text, **mount_flag.read_mount(text, expand))


def read_device(text: str) -> RunDevice:
    """``--device``'s value, which has no variables."""
    return RunDevice(text=text, **mount_flag.read_device(text))
