"""What the parts of a build tell each other: trees, results of steps, and events.

Times are seconds since the epoch, sizes bytes.  Everything that a worker
answers to the coordinator is a record of JSON values (see
:mod:`podpy.build.execute`).
"""

from __future__ import annotations

from podpy.model import Descriptor
from podpy.records import EMPTY, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from podpy.build.ignore import Ignore
    from podpy.build.instructions import Add, Copy, Run
    from podpy.build.ssh import Agent
    from podpy.errors import PodpyError


@record
class Tree:
    """A root file system to read: layers of the store (lowest first), or a host directory."""

    layers: tuple[str, ...] = ()
    directory: str = ""


@record
class Source:
    """What a copy or a mount reads: a host directory with what is ignored in it, or a tree.

    ``ignore`` is the :class:`podpy.build.ignore.Ignore` of a directory; a tree has none.
    ``name`` is what the user calls it (a stage, an image, a named context), empty
    for the build's own context.  A ``passing`` directory is gone after the build.
    """

    name: str = ""
    directory: str = ""
    ignore: Ignore | None = None
    tree: Tree | None = None
    passing: bool = False


@record
class CopyWork:
    """One COPY or ADD, its variables expanded.  ``working_dir`` is the stage's.

    ``secret`` answers the build's secrets that ADD may need (``GIT_AUTH_TOKEN``,
    ``HTTP_AUTH_TOKEN_<host>`` …), ``agent`` is what ``--ssh default`` means.
    """

    instruction: Copy | Add
    source: Source
    working_dir: str = "/"
    secret: Callable[[str], str | None] | None = None
    agent: Agent | None = None


@record
class RunWork:
    """One RUN, its variables expanded.

    ``env`` are the stage's variables, ``arguments`` the ``ARG`` values in scope
    (a variable of the same name wins), ``proxies`` the predefined ones, which are
    in no key and no history.  ``sources`` maps what ``from=`` of its mounts
    says (empty: the build's context) to what it means.  ``out`` and ``err`` are
    the descriptors that the command writes to.
    """

    instruction: Run
    env: Mapping[str, str] = EMPTY
    arguments: Mapping[str, str] = EMPTY
    proxies: Mapping[str, str] = EMPTY
    user: str = ""
    working_dir: str = "/"
    shell: tuple[str, ...] = ("/bin/sh", "-c")
    sources: Mapping[str, Source] = EMPTY
    out: int = 1
    err: int = 2


@record
class StepResult:
    """What a step made: the layer's diff id and its blob; no blob when it made no layer.

    ``created`` is when it was made, which a cached result remembers: a build of
    nothing new gives the same image again.
    """

    diff_id: str = ""
    blob: Descriptor | None = None
    created: float = 0.0
    cached: bool = False
    _nested = {"blob": Descriptor}


# --- events ------------------------------------------------------------------


@record
class Loaded:
    """The Dockerfile that is built, told before any step: failures are shown with its lines."""

    name: str
    lines: tuple[str, ...]


@record
class Started:
    """A step begins (or waits no longer).

    ``step`` numbers the steps of one build from 1, in the order in which they
    were planned.  ``stage`` is its stage's name (``"build"``, ``"stage-1"``;
    empty for the build's own work, such as ``[internal] load …``);
    ``position`` is (n, of how many) among that stage's steps.
    """

    step: int
    stage: str = ""
    position: tuple[int, int] = (0, 0)
    text: str
    platform: str = ""


@record
class Output:
    """What a step's command wrote: ``stream`` is 1 or 2."""

    step: int
    stream: int
    data: bytes


@record
class Transfer:
    """Progress of a download or an export within a step; ``total`` is 0 when unknown."""

    step: int
    text: str
    current: int = 0
    total: int = 0


@record
class Finished:
    """A step is over; ``cached`` when its result was there already."""

    step: int
    seconds: float = 0.0
    cached: bool = False


@record
class Failed:
    """A step failed; ``cancelled`` when only because another one did.

    ``lines`` are the source lines of its instruction, first and last, 1-based.
    """

    step: int
    error: PodpyError
    seconds: float = 0.0
    cancelled: bool = False
    lines: tuple[int, int] = (0, 0)


@record
class Warned:
    """Something the user should know; it stops nothing."""

    text: str
    step: int = 0


if TYPE_CHECKING:
    Event = Loaded | Started | Output | Transfer | Finished | Failed | Warned
    Report = Callable[[Event], None]
