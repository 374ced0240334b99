"""The entry point: a command line in, an exit code out, every error told in one place.

A well-formed line is parsed from the compiled table and its adapter called at
once; everything else (help, mistakes, completion) goes to the Typer
application, which costs 100 ms to import and knows what to say.

What this module imports, ``version`` pays for: ``os`` is not among it.
"""

from __future__ import annotations

import posix
import sys

from podpy.errors import PodpyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COMPLETION = b"_PODPY_COMPLETE"
NETWORK_SUPERVISOR = "network-supervisor"
_NULL = "/dev/null"
_INTERRUPTED = 130
_PIPE_CLOSED = 141


def main() -> None:
    """Run the command line and leave with its exit code.

    At once: taking the interpreter apart would cost every command 2 ms.
    """
    _open_streams()
    code = command(sys.argv[1:])
    try:
        sys.stderr.flush()
    finally:
        posix._exit(code)


def _open_streams() -> None:
    """Streams the caller closed become ``/dev/null``, lest a file of ours takes their place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            try:
                posix.fstat(number)
            except OSError:
                posix.open(_NULL, posix.O_RDWR)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def command(words: Sequence[str]) -> int:
    """The exit code of ``podpy WORDS...``; whatever goes wrong is told here and nowhere else."""
    invocation = _Invocation(words)
    try:
        code = invocation.run()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return _PIPE_CLOSED
    except PodpyError as error:
        invocation.tell(error.message, error.hint)
        return error.exit_code
    except OSError as error:
        invocation.tell(_describe(error))
    except RecursionError:
        invocation.tell("input is nested too deeply")
    except Exception as error:
        invocation.tell(
            f"internal error: {type(error).__name__}: {error}",
            "a bug of podpy's: run it with --debug and report what that prints",
        )
    return PodpyError.exit_code


class _Invocation:
    """One command line, and what an error message needs to know of it."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._operation = ""
        self._debug = words[:1] in (["--debug"], ["-D"])

    def run(self) -> int:
        from podpy.cli import parse, table

        if self._words[:1] == [NETWORK_SUPERVISOR]:
            return _supervise_networks(*self._words[1:])
        if COMPLETION in posix.environ:
            return self._run_typer()
        try:
            call = parse.line(
                self._words, settings=table.SETTINGS, groups=table.GROUPS, commands=table.COMMANDS
            )
        except parse.Refused:
            return self._run_typer()
        from podpy.cli.session import Session

        session = Session(**call.settings)
        self._debug = session.debug
        self._operation = call.operation
        return session.call(call.module, call.function, call.context, call.values)

    def _run_typer(self) -> int:
        from podpy.cli import app

        return app.run(self._words)

    def tell(self, message: str, hint: str = "") -> None:
        """Print an error the one way podpy prints errors."""
        if self._debug:
            import traceback

            traceback.print_exc()
        from podpy.cli import output

        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        try:
            output.error(self._operation, message, hint)
        except OSError:
            pass  # nobody reads standard error; the exit code still tells


def _supervise_networks(place: str = "", lock: str = "") -> int:
    """No command of the user's: a container's supervisor starts it in place of a killed one."""
    if not (place and lock.isdigit()):
        raise PodpyError(f"{NETWORK_SUPERVISOR}: podpy starts it by itself")
    from podpy.net import birth

    return birth.take_over(place, int(lock))


def _describe(error: OSError) -> str:
    """The host's refusal: what it refused on which path, and why."""
    cause = error.strerror or str(error) or type(error).__name__
    named = (error.filename, error.filename2)
    import os

    paths = [os.fsdecode(name) for name in named if isinstance(name, (str, bytes))]
    return f"{' → '.join(paths)}: {cause}" if paths else cause


def _drop_output() -> None:
    """Nobody can take our output: let Python's last flush at exit go nowhere."""
    null = posix.open(_NULL, posix.O_WRONLY)
    posix.dup2(null, 1)
    posix.close(null)


if __name__ == "__main__":
    main()
