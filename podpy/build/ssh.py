"""``RUN --mount=type=ssh``: an SSH agent's socket in the container, without its keys.

A small process stands between: it lets through what a client needs (the list of
keys, signatures) and refuses what would change the user's agent (adding,
removing, locking keys).  Where keys are given as files, an agent of their own
holds them for the time of the step (``ssh-agent``, ``ssh-add``).
"""

from __future__ import annotations

import _signal
import os
import select
import stat

from podpy.errors import BuildError, HostError, suppress
from podpy.kernel import libc, mounts, process
from podpy.records import record
from podpy.storage import single

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

#: Requests of the agent's protocol that only read: identities, sign, extension (session-bind).
_HARMLESS = (11, 13, 27)
_FAILURE = b"\0\0\0\1\5"
_LIMIT = 256 << 10  # bytes of one message, as ssh-agent has it
_SPACE = 64 << 10
_DIRECTORY = "/run/buildkit"
# ssh-agent is a setgid program, which undoes what would kill it with its parent: it ends
# when the line from us does, whatever becomes of us.
_IN_DIRECTORY = 'cd "$0" && exec "$@"'  # the path of a socket is short
_AGENT_LIFE = 'read -r line; kill "$SSH_AGENT_PID"'


@record
class Agent:
    """What ``--ssh`` gives a name to: an agent's socket, or key files; absolute paths."""

    id: str
    paths: tuple[str, ...] = ()


@record
class Socket:
    """A socket of the host on ``target``, given to a user of the container."""

    source: str
    target: str
    mode: int = 0o600
    uid: int = 0
    gid: int = 0

    def describe(self) -> str:
        return f"provide {self.target}"

    def prepare(self) -> tuple[int, ...]:
        return (os.open(self.source, libc.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC),)

    def execute(self, root_fd: int, prepared: tuple[int, ...] = ()) -> None:
        (source,) = prepared or self.prepare()
        single.give(f"/proc/self/fd/{source}", self.uid, self.gid)
        os.chmod(f"/proc/self/fd/{source}", self.mode)
        mounted = libc.open_tree(source, "", libc.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH)
        target = mounts.open_target(root_fd, self.target, directory=False)
        libc.move_mount(mounted, target)
        for fd in (source, mounted, target):
            os.close(fd)


def default_target(number: int) -> str:
    return f"{_DIRECTORY}/ssh_agent.{number}"


class Forward:
    """A running way to an agent: a socket at ``path``, and processes that end with :meth:`stop`.

    They end with the caller, too, should it be killed.
    """

    def __init__(self, agent: Agent, directory: str, name: str) -> None:
        self.path = f"{directory}/{name}"
        self._pids: list[int] = []
        self._line = -1
        try:
            upstream = self._upstream(agent, f"{self.path}.agent")
            with _bound(directory, name) as listener:
                self._pids.append(_fork(_Relay(listener, upstream).run, keeping=listener.fileno()))
        except BaseException:
            self.stop()
            raise

    def _upstream(self, agent: Agent, own: str) -> str:
        if len(agent.paths) == 1 and _is_socket(agent.paths[0]):
            return agent.paths[0]
        program = process.find_program("ssh-agent")
        if not program or not process.find_program("ssh-add"):
            raise HostError(
                f"--ssh {agent.id}: keys as files need ssh-agent and ssh-add",
                hint="install the package openssh-client, or start an agent yourself",
            )
        reading, self._line = os.pipe()
        directory, name = os.path.split(own)
        command = ["/bin/sh", "-c", _IN_DIRECTORY, directory, program, "-a", name]
        command += ["/bin/sh", "-c", _AGENT_LIFE]
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._pids.append(process.spawn(command, files={0: reading, 1: null, 2: null}))
        for fd in (reading, null):
            os.close(fd)
        _await(own, self._pids[-1], agent)
        for path in agent.paths:
            _add_key(agent, path, own)
        return own

    def stop(self) -> None:
        """End the relay, and by the end of its line the agent that we started."""
        if self._line >= 0:
            os.close(self._line)
            self._line = -1
            process.wait(self._pids.pop(0))
        for pid in self._pids:
            with suppress(ProcessLookupError):
                os.kill(pid, _signal.SIGKILL)
            process.wait(pid)
        self._pids.clear()


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _fork(function: Callable[[], None], *, keeping: int) -> int:
    """A child that the kernel kills with us, with one descriptor of ours and no output."""
    parent = os.pidfd_open(os.getpid())

    def child() -> int:
        os.setsid()
        process.die_with(parent)
        process.close_others((keeping,), first=3)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        process.default_signals()
        function()
        return 0

    try:
        return process.fork_child(child)
    finally:
        os.close(parent)


def _await(path: str, pid: int, agent: Agent) -> None:
    """Until the agent listens, which it does within milliseconds."""
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        while not _is_socket(path):
            if poll.poll(2):
                raise HostError(f"--ssh {agent.id}: ssh-agent could not be started")
    finally:
        os.close(pidfd)


def _add_key(agent: Agent, path: str, own: str) -> None:
    directory, name = os.path.split(own)
    fd = os.open(directory, libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    told = {each: os.environ[each] for each in ("PATH", "HOME") if each in os.environ}
    told["SSH_AUTH_SOCK"] = f"/proc/{os.getpid()}/fd/{fd}/{name}"
    # Without a terminal and without a way to ask, a key with a passphrase is refused at once.
    told |= {"SSH_ASKPASS": "/bin/false", "SSH_ASKPASS_REQUIRE": "force"}
    try:
        done = process.run([process.find_program("ssh-add"), "-q", path], environment=told)
    finally:
        os.close(fd)
    if done.code:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise BuildError(
            f"--ssh {agent.id}: {path}: {said[-1] if said else 'not a key that ssh-add takes'}",
            hint="keys with a passphrase: add them to your agent, and forward that",
        )


def _bound(directory: str, name: str) -> socket.socket:
    """A listening socket; bound by descriptor, because ``sun_path`` is short."""
    import socket  # 4 ms, which a build without agents does without

    fd = os.open(directory, libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(f"/proc/self/fd/{fd}/{name}")
        listener.listen()
    finally:
        os.close(fd)
    return listener


def _connected(path: str) -> socket.socket:
    import socket

    directory, name = os.path.split(path)
    fd = os.open(directory, libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.connect(f"/proc/self/fd/{fd}/{name}")
    except OSError:
        made.close()
        raise
    finally:
        os.close(fd)
    return made


class _Relay:
    """Clients on one side, the agent on the other, one connection for each."""

    def __init__(self, listener: socket.socket, upstream: str) -> None:
        self._listener = listener
        self._upstream = upstream
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._peers: dict[int, tuple[socket.socket, socket.socket]] = {}
        self._pending: dict[int, bytes] = {}

    def run(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._listener.fileno():
                    self._accept()
                elif fd in self._peers:
                    self._pass_on(fd)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            agent = _connected(self._upstream)
        except OSError:
            client.close()
            return
        for one, other in ((client, agent), (agent, client)):
            self._peers[one.fileno()] = (one, other)
            self._poll.register(one, select.POLLIN)
        self._pending[client.fileno()] = b""

    def _pass_on(self, fd: int) -> None:
        one, other = self._peers[fd]
        try:
            data = one.recv(_SPACE)
            if not data:
                self._drop(one, other)
            elif fd in self._pending:
                self._ask(one, other, data)
            else:
                other.sendall(data)
        except OSError:
            self._drop(one, other)

    def _ask(self, client: socket.socket, agent: socket.socket, data: bytes) -> None:
        """Whole requests go on to the agent, if they are harmless."""
        pending = self._pending[client.fileno()] + data
        while len(pending) > 4:
            size = int.from_bytes(pending[:4], "big")
            if not 0 < size <= _LIMIT:
                self._drop(client, agent)
                return
            if len(pending) < 4 + size:
                break
            request, pending = pending[: 4 + size], pending[4 + size :]
            if request[4] in _HARMLESS:
                agent.sendall(request)
            else:
                client.sendall(_FAILURE)
        self._pending[client.fileno()] = pending

    def _drop(self, *ends: socket.socket) -> None:
        for end in ends:
            self._poll.unregister(end)
            del self._peers[end.fileno()]
            self._pending.pop(end.fileno(), None)
            end.close()
