"""The supervisor: one process per container, from ``started`` to the last clean-up.

It stays in the host's user namespace without any privilege, reads what the
payload writes, logs it, hands it to whoever is attached (:mod:`.traffic`), and
is the only writer of the container's ``state.json``.  It blocks nowhere but in
``poll``.

When pid 1 has ended: output is drained, sockets and cgroup are removed, helpers
told to stop, the state is written, ``--rm`` is carried out up to the rename;
then every client is told.  Waiting for helpers and deleting trees come after
that answer, unless ports were published: whoever starts the next container on
them must find them free.

A container that lives gets a lean supervisor (:mod:`.lean`): the same object,
carried over an ``execve`` as plain data.  What it imports is built into the
interpreter.
"""

from __future__ import annotations

import _signal
import posix
import time

from podpy.kernel.loop import IN, Loop
from podpy.runtime import diary, frames, lean, logs, teardown
from podpy.runtime.traffic import Traffic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podpy.runtime.link import Link

_CAUGHT = (_signal.SIGCHLD, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGUSR1)
_IGNORED = (_signal.SIGINT, _signal.SIGQUIT, _signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU)
_STREAMS = ("stdin_fd", "stdout_fd", "stderr_fd")
_RESUME = "podpy.runtime.supervisor:resume"
_LEAN_AFTER = 1.0  # seconds a foreground container runs before its supervisor slims


def listen(run_directory: str) -> int:
    """Make the container's runtime directory and its socket; return the listening descriptor."""
    try:
        posix.mkdir(run_directory, 0o700)
    except FileExistsError:
        pass
    directory = frames.open_directory(run_directory)
    try:
        teardown.unlink(f"{run_directory}/{frames.SOCKET}")
        connection = frames.open_socket()
        connection.bind(frames.address(directory))
        connection.listen(64)
        return connection.detach()
    finally:
        posix.close(directory)


def run(task: dict[str, Any]) -> int:
    """Supervise the container that ``task`` describes to its end; return an exit status.

    The caller is a single-threaded process in its own session, a child
    subreaper, with the container's pid 1 among its children.  ``task`` is plain
    data (``marshal`` carries it over the re-execution).  It must hold

    =======================================  =========================================
    ``id name directory run_directory tmp``  texts; absolute paths
    ``tty``                                  output and input are one pty master
    ``stdin_fd stdout_fd stderr_fd``         our ends; -1 for none; for a pty stdin
                                             and stdout are the master
    ``log``                                  ``driver path max_size max_file tag``
    ``init_pid init_pidfd``                  the container's pid 1
    ``helpers``                              pids of network helpers, our children
    ``listen_fd``                            what :func:`listen` returned
    ``client_fd``                            our end of the foreground client's
                                             socket pair (``SOCK_SEQPACKET``), or -1
    ``state``                                ``ContainerState`` as running, as a dict
    ``cgroup``                               the cgroup directory, or an empty text
    ``remove``                               carry out ``--rm``
    ``stop_signal stop_timeout``             name and seconds, for a SIGTERM to us
    =======================================  =========================================

    and may hold ``keep`` (descriptors whose closing ends a helper), ``link`` (a
    container on bridge networks: see :mod:`.link`), ``stdin_once``
    (close stdin at the client's end of file; default: there is a foreground client),
    ``timeout`` (seconds until the container is killed, 0 for never),
    ``client_wants`` (see :mod:`.frames`; default ``b"ioe"``), ``release`` (files to
    remove with the container: its name), ``discard`` (directories to delete with it:
    anonymous volumes), ``sweep`` (``"module:function"`` that deletes one tree, given
    its path), ``events`` (see :mod:`.diary`) and ``state_written`` (``state.json``
    says "running" already).
    """
    from podpy.kernel import signals  # which a lean supervisor need not know

    task["stop_signal"] = signals.number(task["stop_signal"])
    if task.get("link"):
        from podpy.runtime import link

        task["link"]["start"] = link.starter()
    _let_go(task)
    return Supervisor(task).supervise()


def resume(task: dict[str, Any], carried: dict[str, Any]) -> None:
    """Go on after the re-execution."""
    Supervisor(task, carried).supervise()


def _let_go(task: dict[str, Any]) -> None:
    """Keep nothing of the caller's: its pipes, locks and sockets must end when it does.

    Numbers stay taken (by ``/dev/null``): objects of the caller's that this
    process inherited may close them at any time.
    """
    named = (*_STREAMS, "listen_fd", "client_fd", "init_pidfd")
    kept = {*(task[name] for name in named), *task.get("keep", ()), *_linked(task)}
    posix.chdir("/")
    posix.umask(0o077)
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    for entry in posix.listdir("/proc/self/fd"):
        fd = int(entry)
        if fd not in kept and fd != null:
            posix.dup2(null, fd, fd <= 2)  # inheritable where it is a standard stream
    posix.close(null)


def _linked(task: dict[str, Any]) -> list[int]:
    """The descriptors of the link to the network supervisor, where there is one."""
    if not task.get("link"):
        return []
    from podpy.runtime import link

    return link.descriptors(task["link"])


class Supervisor:
    """One container's life; ``carried`` is what the supervisor before the re-execution knew."""

    def __init__(self, task: dict[str, Any], carried: dict[str, Any] | None = None) -> None:
        self.task = task
        self._state = task["state"]
        self._is_lean = carried is not None
        self._loop = Loop()
        self._init_status: posix.waitid_result | None = None
        self._init_gone = False
        self._kill_at = 0.0
        self._lean_at = 0.0
        self._catch_signals()
        if task["init_pidfd"] < 0:
            task["init_pidfd"] = posix.pidfd_open(task["init_pid"])  # our child: not reused yet
        self._helpers = self._open_helpers()
        self._log = self._open_log()
        self._traffic = Traffic(self._loop, task, self._log, self._signal_init)
        self._link = self._open_link()
        self._loop.watch(task["init_pidfd"], IN, self._on_init_end)
        if carried is not None:
            self._kill_at = carried["kill_at"]
            self._traffic.restore(carried["traffic"])
        else:
            self._begin()

    def _begin(self) -> None:
        task = self.task
        task.setdefault("stdin_once", task["client_fd"] >= 0)
        if task["client_fd"] >= 0:
            self._traffic.add_foreground(task["client_fd"], task.get("client_wants", b"ioe"))
            self._lean_at = time.monotonic() + _LEAN_AFTER
        if task.get("timeout"):
            self._kill_at = time.monotonic() + task["timeout"]
        if not task.get("state_written"):
            teardown.write_state(task["directory"], self._state)
        diary.write(task, "start")

    def carry(self) -> dict[str, Any]:
        """What the supervisor after the re-execution must know besides the task."""
        return {"kill_at": self._kill_at, "traffic": self._traffic.carry()}

    def descriptors(self) -> list[int]:
        """The descriptors it inherits."""
        kept = (*self.task.get("keep", ()), *_linked(self.task))
        return [*self._traffic.descriptors(), self.task["init_pidfd"], *kept]

    def _catch_signals(self) -> None:
        reader, writer = posix.pipe2(posix.O_NONBLOCK | posix.O_CLOEXEC)
        _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in _CAUGHT:
            _signal.signal(number, lambda *_: None)
        for number in _IGNORED:
            _signal.signal(number, _signal.SIG_IGN)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        self._loop.watch(reader, IN, self._on_signals)

    def _open_helpers(self) -> list[int]:
        pidfds = []
        for pid in self.task["helpers"]:
            try:
                fd = posix.pidfd_open(pid)
            except OSError:
                continue
            pidfds.append(fd)
            self._loop.watch(fd, IN, self._on_helper_end)
        return pidfds

    def _open_log(self) -> logs.Log:
        try:
            return logs.open_log(self.task)
        except OSError as error:
            self._state["error"] = f"log {self.task['log']['driver']}: {error.strerror}"
            return logs.Log()

    def _open_link(self) -> Link | None:
        if not self.task.get("link"):
            return None
        from podpy.runtime.link import Link

        return Link(self._loop, self.task["link"], self._on_change)

    def _on_change(self, fields: dict[str, Any]) -> None:
        """The network has changed under the container: who reads its state must see it."""
        diary.denied(self.task, self._state.get("denied", ()), fields.get("denied", ()))
        self._state.update(fields)
        self._save_state()

    # --- life ----------------------------------------------------------------

    def supervise(self) -> int:
        """Serve until pid 1 is gone, then clean up."""
        if not self._is_lean and not self._lean_at:
            self._slim()
        self._reap()
        while not self._init_gone:
            self._loop.turn(self._patience())
        return self._end()

    def _patience(self) -> float | None:
        """Do what is due; return the seconds until something else is."""
        now = time.monotonic()
        if self._lean_at and now >= self._lean_at:
            self._lean_at = 0.0
            self._slim()
        if self._kill_at and now >= self._kill_at:
            self._kill_at = 0.0
            self._signal_init(_signal.SIGKILL)
        due = [when for when in (self._lean_at, self._kill_at) if when]
        return max(min(due) - now, 0.0) if due else None

    def _slim(self) -> None:
        """Re-execute as a lean supervisor; where that fails, go on as we are."""
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _CAUGHT)  # none may meet the bare interpreter
        try:
            lean.reexecute(_RESUME, self.task, self.carry(), self.descriptors())
        except OSError:
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _CAUGHT)

    def _on_signals(self, fd: int, _events: int) -> None:
        numbers = posix.read(fd, 256)
        if _signal.SIGCHLD in numbers:
            self._reap()
        if _signal.SIGTERM in numbers:
            self._signal_init(self.task["stop_signal"])
            self._kill_at = time.monotonic() + max(self.task["stop_timeout"], 0)
        if _signal.SIGHUP in numbers or _signal.SIGUSR1 in numbers:
            self._renew_socket()

    def _renew_socket(self) -> None:
        """Somebody misses our socket: the runtime directory was cleaned under us."""
        path = self.task["run_directory"]
        try:
            frames.make_directories(path)
            self._traffic.replace_listener(listen(path))
        except OSError:
            pass  # whoever asked finds no socket, and says so

    def _signal_init(self, number: int) -> None:
        try:
            _signal.pidfd_send_signal(self.task["init_pidfd"], number)
        except OSError:
            pass  # it has ended, or there is no such signal

    def _on_helper_end(self, fd: int, _events: int) -> None:
        self._loop.forget(fd)
        if not self._init_gone:
            self._state["error"] = "a network helper has ended: the container is cut off"
            self._save_state()

    def _on_init_end(self, fd: int, _events: int) -> None:
        self._loop.forget(fd)
        self._reap()
        self._init_gone = True

    def _reap(self) -> None:
        """Collect every dead child: pid 1, its orphans, helpers."""
        while True:
            try:
                status = posix.waitid(posix.P_ALL, 0, posix.WEXITED | posix.WNOHANG)
            except ChildProcessError:
                return
            if status is None:
                return
            if status.si_pid == self.task["init_pid"]:
                self._init_status = status
                self._init_gone = True

    # --- the end -------------------------------------------------------------

    def _end(self) -> int:
        task = self.task
        code = self._record_end()
        diary.write(task, "die", exitCode=str(code))
        if self._link:
            self._link.leave()
        self._traffic.drain()
        self._traffic.stop_listening()
        self._log.close()
        teardown.remove_run_directory(task["run_directory"])
        teardown.remove_cgroup(task["cgroup"])
        for fd in task.get("keep", ()):
            posix.close(fd)
        teardown.signal_helpers(self._helpers)
        if self._link:
            self._link.release()
        if self._state["ports"]:
            teardown.await_helpers(self._helpers)
        self._save_state()
        trees = teardown.retire(task) if task["remove"] else []
        if task["remove"]:
            diary.write(task, "destroy")
        self._traffic.farewell(code)
        teardown.await_helpers(self._helpers)
        for tree in trees:
            self._delete(tree)
        self._traffic.linger()
        return 0

    def _record_end(self) -> int:
        state = self._state
        status = self._init_status
        state["status"] = "exited"
        state["finished"] = time.time()
        state["oom_killed"] = teardown.oom_killed(self.task["cgroup"])
        state["exit_code"] = 255 if status is None else teardown.exit_code(status)
        if status is None:
            state["error"] = "how the container ended is not known: it was not our child"
        return int(state["exit_code"])

    def _save_state(self) -> None:
        try:
            teardown.write_state(self.task["directory"], self._state)
        except OSError:
            pass  # removed under us, or a full disk: liveness tells the truth then

    def _delete(self, tree: str) -> None:
        if not self.task.get("sweep"):
            return  # it lies in tmp/ under our name: the next sweep takes it
        try:
            lean.load(self.task["sweep"])(tree)
        except Exception:  # whatever it is, nobody is left to hear it, and a sweep follows
            return
