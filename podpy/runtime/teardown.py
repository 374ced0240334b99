"""What is left to do when a container's pid 1 has ended.

Every step bears that somebody else did it first, or that the step before it
was never reached: a supervisor may be killed between any two of them.
"""

from __future__ import annotations

import _signal
import posix
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
_HELPER_PATIENCE = 2.0  # seconds between SIGTERM and SIGKILL


def exit_code(status: posix.waitid_result) -> int:
    """The shell's number for how a process ended: its own, or 128 + the signal."""
    return status.si_status if status.si_code == posix.CLD_EXITED else 128 + status.si_status


def oom_killed(cgroup: str) -> bool:
    """The kernel killed a process of this cgroup for want of memory."""
    if not cgroup:
        return False
    try:
        lines = read_file(f"{cgroup}/memory.events").splitlines()
    except OSError:
        return False
    return any(line.startswith(b"oom_kill ") and line[9:] != b"0" for line in lines)


def read_file(path: str) -> bytes:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, 65536)
    finally:
        posix.close(fd)


def remove_cgroup(path: str) -> None:
    """Kill what is left in the container's cgroup (``exec`` sessions) and remove it."""
    if not path:
        return
    for _attempt in range(50):
        try:
            posix.rmdir(path)
            return
        except FileNotFoundError:
            return
        except OSError:
            _kill_cgroup(path)
            _remove_inner(path)
            select.poll().poll(2)  # the killed processes are on their way out


def _kill_cgroup(path: str) -> None:
    try:
        fd = posix.open(f"{path}/cgroup.kill", posix.O_WRONLY | posix.O_CLOEXEC)
    except OSError:
        return
    try:
        posix.write(fd, b"1")
    except OSError:
        pass
    finally:
        posix.close(fd)


def _remove_inner(path: str) -> None:
    """Remove the cgroups that a container made below its own: nested without a bound.

    One descriptor goes down and up again; nobody can move a cgroup meanwhile.
    """
    names: list[str] = []
    try:
        fd = posix.open(path, _DIRECTORY)
    except OSError:
        return
    try:
        while (inner := _first_directory(fd)) or names:
            outer, fd = fd, posix.open(inner or "..", _DIRECTORY, dir_fd=fd)
            posix.close(outer)
            if inner:
                names.append(inner)
            else:
                posix.rmdir(names.pop(), dir_fd=fd)
    except OSError:
        pass  # somebody still runs there: the next attempt begins anew
    finally:
        posix.close(fd)


def _first_directory(fd: int) -> str:
    with posix.scandir(fd) as entries:
        return next((e.name for e in entries if e.is_dir(follow_symlinks=False)), "")


def signal_helpers(pidfds: Sequence[int], number: int = _signal.SIGTERM) -> None:
    """Ask the network helpers to end; those that already have are no error."""
    for fd in pidfds:
        try:
            _signal.pidfd_send_signal(fd, number)
        except OSError:
            pass


def await_helpers(pidfds: Sequence[int]) -> None:
    """Wait until the helpers are gone; kill those that take too long."""
    poll = select.poll()
    for fd in pidfds:
        poll.register(fd, select.POLLIN)
    left = len(pidfds)
    while left:
        ended = poll.poll(_HELPER_PATIENCE * 1000)
        if not ended:
            signal_helpers(pidfds, _signal.SIGKILL)
        for fd, _event in ended:
            poll.unregister(fd)
            left -= 1


def remove_run_directory(path: str) -> None:
    """Remove the container's sockets and their directory."""
    try:
        for entry in posix.listdir(path):
            unlink(f"{path}/{entry}")
        posix.rmdir(path)
    except OSError:
        pass  # gone already, or somebody put something of his own there


def unlink(path: str) -> None:
    try:
        posix.unlink(path)
    except FileNotFoundError:
        pass


def retire(task: Mapping[str, Any]) -> list[str]:
    """Release what a removed container holds; return the trees that can now be deleted.

    Its directory (and its anonymous volumes) go to ``tmp/`` by ``rename``, under
    names that tell whose work they are: should this process die, anybody sees
    that and finishes it.  The name is released first: who takes it the instant
    after must not lose it to us.
    """
    for path in task.get("release", ()):
        _release(path, task["id"])
    owner = task["state"]["supervisor"]
    trees = []
    for path in (task["directory"], *task.get("discard", ())):
        tree = "{}/trash.{}.{}.{}.{}".format(
            task["tmp"], owner["pid"], owner["start"], owner["boot_id"][:8], posix.urandom(4).hex()
        )
        try:
            posix.rename(path, tree)
        except OSError:
            continue
        trees.append(tree)
    return trees


def _release(path: str, container_id: str) -> None:
    """Remove a name's reservation unless it is another container's by now (``rename``)."""
    try:
        if container_id.encode() in read_file(path):
            unlink(path)
    except FileNotFoundError:
        pass


def to_json(value: Any) -> str:
    """JSON of dict, list, tuple, str, int, float, bool and None.

    The supervisor's only need for JSON is its state file, a few hundred bytes:
    this costs less memory than the ``_json`` library.
    """
    if isinstance(value, dict):
        return "{" + ",".join(f"{_quoted(k)}:{to_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(to_json, value)) + "]"
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def _quoted(text: str) -> str:
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(c: str) -> str:
    is_plain = c >= " " and c not in '"\\' and not "\ud800" <= c <= "\udfff"
    return c if is_plain else f"\\u{ord(c):04x}"


def write_state(directory: str, state: Mapping[str, Any]) -> None:
    """Replace the container's ``state.json`` in one step."""
    path = f"{directory}/state.json"
    temporary = f"{directory}/.state.json.{posix.getpid()}.tmp"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC
    fd = posix.open(temporary, flags, 0o600)
    try:
        try:
            text = to_json(dict(state)).encode() + b"\n"
            while text:  # a disk that is nearly full takes a part
                text = text[posix.write(fd, text) :]
        finally:
            posix.close(fd)
        posix.rename(temporary, path)
    except OSError:
        unlink(temporary)
        raise
