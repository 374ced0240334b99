"""What verbs over several objects print: each success at once, each failure as an error line."""

from __future__ import annotations

from podpy.cli import output
from podpy.errors import Conflict, NotFound, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from podpy.engine.context import Outcome

_MISSING = 1
_IN_USE = 2


def report(
    operation: str,
    outcomes: Iterable[Outcome],
    *,
    ids: bool = False,
    removal: bool = False,
    force: bool = False,
) -> int:
    """Print what was done; the exit code of the first failure, 0 when there was none.

    ``removal`` follows the codes podman documents for ``rm`` and ``rmi``: 1 for
    what does not exist, 2 for what is in use.  With ``force`` what does not exist
    is told, and no failure: it is what was asked for.
    """
    codes: list[int] = []
    for outcome in outcomes:
        error = outcome.error
        if error is None:
            output.line(outcome.id if ids else outcome.name)
            continue
        output.error(operation, error.message, error.hint)
        code = error.exit_code
        if removal and isinstance(error, NotFound):
            code = 0 if force else _MISSING
        elif removal and isinstance(error, (Conflict, StateError)):
            code = _IN_USE
        codes.append(code)
    return max(codes, default=0)


def report_prune(operation: str, title: str, outcomes: Iterable[Outcome]) -> int:
    """What went, under docker's title, and how much room that made; the exit code."""
    done = list(outcomes)
    if any(outcome.error is None for outcome in done):
        output.line(title)
    code = report(operation, done)
    if any(outcome.error is None for outcome in done):
        output.line()
    output.line(f"Total reclaimed space: {output.size(sum(one.freed for one in done))}")
    return code


def confirm(question: str, *, force: bool) -> bool:
    """Ask before something is destroyed; a script without a terminal says ``--force``."""
    if force:
        return True
    import sys

    sys.stderr.write(f"WARNING! {question}\nAre you sure you want to continue? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
