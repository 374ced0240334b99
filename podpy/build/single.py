"""Root's power over owners and devices where only one id is mapped, by record.

A step on a host without subordinate ids runs under a second filter
(:mod:`podpy.kernel.seccomp_single`).  The :class:`Recorder` answers what that
stops, one call after the other: owners and device nodes are written down
(:mod:`podpy.storage.single`), and told again to whoever asks.  What the kernel
can do, it does: a ``chown`` is carried out as one to root, which also checks
everything that a ``chown`` is checked for and clears set-id bits.

The payload is hostile and may rename, unmap and kill while a call waits.  The
recorder is root of the payload's user namespace, so it can do to files no more
than the payload's root; it has made the payload's root directory its own, so
that no path leads out of it, and follows no magic links.  It lies outside the
payload's process and mount namespaces, and is not dumpable.
"""

from __future__ import annotations

import errno
import os
import resource
import stat

from podpy.build.sight import View
from podpy.errors import HostError, LaunchError
from podpy.kernel import capabilities as caps
from podpy.kernel import libc, process, seccomp_single, statbuf
from podpy.kernel.notify import Call, Listener, as_int
from podpy.kernel.statbuf import Shown
from podpy.records import EMPTY
from podpy.storage import answers, overlay, single
from podpy.storage.single import ROOT, Recorded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from podpy.build.inside import Upper
    from podpy.paths import Store
    from podpy.runtime.spec import Plan

_PATH = libc.O_PATH | os.O_CLOEXEC
_UNCHANGED = 0xFFFFFFFF
_AT_SYMLINK_NOFOLLOW = 0x100
_MOST_HELD = 1 << 16
_OWN_NEEDS = 64  # descriptors


_APT = "/etc/apt/apt.conf.d"
_SETTINGS = {
    # apt becomes a user without rights for its downloads, and makes sure that it has.
    f"{_APT}/zz-single-id": 'APT::Sandbox::User "root";\n',
}


def filter_program() -> bytes:
    """The filter of a step's processes; :class:`HostError` for an unknown machine."""
    machine = os.uname().machine
    program = seccomp_single.program(machine)
    if not program:
        raise HostError(
            f"RUN with a single id: not known for {machine}",
            hint="ranges in /etc/subuid and /etc/subgid let builds do without it",
        )
    return program


def settings(layers: Sequence[str]) -> dict[str, str]:
    """Files by their place in the container that are shown to its programs.

    ``layers`` are the directories of the image's layers: what is for programs
    that none of them has is left out.
    """
    return {
        path: text
        for path, text in _SETTINGS.items()
        if any(os.path.isdir(f"{layer}{os.path.dirname(path)}") for layer in layers)
    }


def recorder(store: Store, upper: Upper, plan: Plan) -> Recorder | None:
    """The recorder for what is changed in a step's root file system, if its plan wants one."""
    if not plan.recorder:
        return None
    return Recorder(
        upper.changes,
        f"{upper.directory}/{single.LEDGER}",
        single.of_layers(overlay.lower_directories(store, upper.layers)),
        may_chown=bool(plan.process.capabilities & caps.bits(("CAP_CHOWN",))),
    )


class Recorder:
    """Answers the calls of one step, in a process of its own.

    ``changes`` is the step's upper directory (the whole tree with the driver
    ``vfs``), ``ledger`` the path of the list of owners that no attribute holds;
    ``below`` are such owners in the layers below, by path.  ``may_chown``: the
    step has the capability.
    """

    def __init__(
        self,
        changes: str,
        ledger: str,
        below: Mapping[str, Recorded] = EMPTY,
        *,
        may_chown: bool = True,
    ) -> None:
        self._below = below
        self._may_chown = may_chown
        self._changes = os.open(changes, _PATH | os.O_DIRECTORY)
        self._ledger = single.Ledger(ledger, self._changes)
        self._namespace = self._root = -1
        self._pid = 0

    def watch(self, init: int) -> None:
        """See :class:`podpy.runtime.birth.Recorder`."""
        self._namespace = os.open(f"/proc/{init}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        self._root = os.open(f"/proc/{init}/root", _PATH | os.O_DIRECTORY)

    def start(self, listener: int, uid: int, gid: int) -> int:
        """Begin to answer; the listener is closed here."""
        if uid or gid:
            self._ledger.add_creator(uid, gid)
        self._pid = process.fork_child(lambda: self._run(listener))
        for fd in (self._namespace, self._root, self._changes, listener):
            os.close(fd)
        self._ledger.close()
        return self._pid

    def finish(self) -> None:
        """Wait until all is written down."""
        if self._pid and process.wait(self._pid) != 0:
            raise LaunchError("the process that records owners has died")

    def _run(self, listener: int) -> int:
        libc.setns(self._namespace, libc.CLONE_NEWUSER)
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        libc.prctl(libc.PR_SET_PDEATHSIG, 9)
        os.umask(0)
        answers.raise_descriptor_limit()
        process.close_others((0, 1, 2, listener, self._root, self._changes, self._ledger.fileno()))
        recorder = _Answers(
            Listener(listener),
            View(self._root),
            self._ledger,
            self._below,
            may_chown=self._may_chown,
        )
        recorder.run()
        return 0


class _Answers:
    """What each call means."""

    def __init__(
        self,
        listener: Listener,
        view: View,
        ledger: single.Ledger,
        below: Mapping[str, Recorded],
        *,
        may_chown: bool,
    ) -> None:
        self._listener = listener
        self._view = view
        self._ledger = ledger
        self._below = below
        self._may_chown = may_chown
        # Owners of what holds no attribute, by device and inode as the payload sees them.
        self._special: dict[tuple[int, int], Recorded] = {}
        self._held: list[int] = []
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_held = min(limit - _OWN_NEEDS, _MOST_HELD)
        methods: dict[str, Callable[[Call], None]] = {
            "chown": self._chown,
            "lchown": self._lchown,
            "fchown": self._fchown,
            "fchownat": self._fchownat,
            "mknod": self._mknod,
            "mknodat": self._mknodat,
            "stat": self._stat,
            "lstat": self._lstat,
            "fstat": self._fstat,
            "newfstatat": self._newfstatat,
            "statx": self._statx,
            "chroot": self._move,
            "pivot_root": self._move,
            "setns": self._move,
        }
        self._machine = os.uname().machine
        self._methods = {
            key: methods[name] for key, name in seccomp_single.calls(self._machine).items()
        }

    def run(self) -> None:
        """Answer until nobody is left who could ask."""
        listener, methods = self._listener, self._methods
        while (call := listener.receive()) is not None:
            try:
                methods[call.architecture, call.number](call)
            except OSError as error:
                listener.answer(call, error=error.errno or errno.EIO)
            except ValueError:  # a path with a zero byte or an impossible number
                listener.answer(call, error=errno.EINVAL)

    def _move(self, call: Call) -> None:
        """From now on a process may have a root of its own."""
        self._view.has_other_roots = True
        self._listener.proceed(call)

    # --- chown(2) ------------------------------------------------------------

    def _chown(self, call: Call) -> None:
        self._own_path(call, libc.AT_FDCWD, *call.arguments[:3], flags=0)

    def _lchown(self, call: Call) -> None:
        self._own_path(call, libc.AT_FDCWD, *call.arguments[:3], flags=_AT_SYMLINK_NOFOLLOW)

    def _fchown(self, call: Call) -> None:
        number, uid, gid = call.arguments[:3]
        self._own(call, self._view.descriptor(call, as_int(number)), uid, gid)

    def _fchownat(self, call: Call) -> None:
        directory, path, uid, gid, flags = call.arguments[:5]
        self._own_path(call, as_int(directory), path, uid, gid, flags=as_int(flags))

    def _own_path(
        self, call: Call, directory: int, address: int, uid: int, gid: int, *, flags: int
    ) -> None:
        self._own(call, self._target(call, directory, address, flags), uid, gid)

    def _target(self, call: Call, directory: int, address: int, flags: int) -> int:
        return self._at(call, directory, self._path(call, address, flags), flags)

    def _path(self, call: Call, address: int, flags: int) -> bytes:
        """The path at an address; empty where that means the directory's descriptor itself."""
        if flags & libc.AT_EMPTY_PATH and not address:
            return b""
        path = self._view.text(call, address)
        if not path and not flags & libc.AT_EMPTY_PATH:
            raise OSError(errno.ENOENT, "path")
        return path

    def _at(self, call: Call, directory: int, path: bytes, flags: int) -> int:
        if path:
            follow = not flags & _AT_SYMLINK_NOFOLLOW
            return self._view.lookup(call, directory, path, follow=follow)
        if directory == libc.AT_FDCWD:
            return self._view.of(call, "cwd")
        return self._view.descriptor(call, directory)

    def _own(self, call: Call, target: int, uid: int, gid: int) -> None:
        """The target changes hands; its descriptor is closed."""
        try:
            if not self._listener.waits(call):
                return
            uid, gid = uid & _UNCHANGED, gid & _UNCHANGED
            if not self._may_chown and {uid, gid} - {0, _UNCHANGED}:
                raise OSError(errno.EPERM, "owner")
            os.chown(f"{target}", -1 if uid == _UNCHANGED else 0, -1 if gid == _UNCHANGED else 0)
            self._record(target, uid, gid)
        finally:
            os.close(target)
        self._listener.answer(call)

    def _record(self, target: int, uid: int, gid: int) -> None:
        status = os.fstat(target)
        known = self._recorded(target, status) or ROOT
        uid = known.uid if uid == _UNCHANGED else uid
        gid = known.gid if gid == _UNCHANGED else gid
        is_root_again = not (uid or gid) and _inherits_group(target)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            single.set_owner(f"{target}", uid, gid, known, always=is_root_again)
        elif uid or gid or known != ROOT or is_root_again:
            self._record_special(target, status, uid, gid)

    def _record_special(self, target: int, status: os.stat_result, uid: int, gid: int) -> None:
        """Even an owner that it had below: it has just come up from there."""
        key = (status.st_dev, status.st_ino)
        who = Recorded(uid=uid, gid=gid)
        if self._special.get(key) == who:
            return
        if self._ledger.add(os.readlink(f"{target}").lstrip("/"), status, uid, gid):
            if key not in self._special and len(self._held) < self._most_held:
                # While it is held, no other file gets this inode.
                self._held.append(os.dup(target))
            self._special[key] = who

    def _recorded(self, target: int, status: os.stat_result | None = None) -> Recorded | None:
        found = single.recorded(f"{target}")
        if found or not (self._special or self._below):
            return found
        status = status or os.fstat(target)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            return None
        found = self._special.get((status.st_dev, status.st_ino))
        return found or self._recorded_below(target)

    def _recorded_below(self, target: int) -> Recorded | None:
        path = os.readlink(f"{target}").lstrip("/")
        return None if self._ledger.has(path) else self._below.get(path)

    # --- mknod(2) ------------------------------------------------------------

    def _mknod(self, call: Call) -> None:
        path, mode, device = call.arguments[:3]
        self._make(call, libc.AT_FDCWD, path, mode, device)

    def _mknodat(self, call: Call) -> None:
        directory, path, mode, device = call.arguments[:4]
        self._make(call, as_int(directory), path, mode, device)

    def _make(self, call: Call, directory: int, address: int, mode: int, device: int) -> None:
        path = self._view.text(call, address)
        head, slash, name = path.rpartition(b"/")
        if not path:
            raise OSError(errno.ENOENT, "path")
        if name in (b"", b".", b".."):
            raise OSError(errno.EEXIST, "path")
        device = _device(device)
        if device == 0 and stat.S_ISCHR(mode):
            raise OSError(errno.EPERM, "path")  # overlayfs's own mark of a deletion
        parent = self._view.lookup(call, directory, head + slash or b".", follow=True)
        try:
            permissions = mode & 0o7777 & ~self._view.umask(call)
            if self._listener.waits(call):
                _make_placeholder(parent, name, permissions, mode, device)
                self._listener.answer(call)
        finally:
            os.close(parent)

    # --- stat(2) -------------------------------------------------------------

    def _stat(self, call: Call) -> None:
        path, buffer = call.arguments[:2]
        self._tell(call, (libc.AT_FDCWD, path, 0), buffer, self._pack_stat)

    def _lstat(self, call: Call) -> None:
        path, buffer = call.arguments[:2]
        self._tell(call, (libc.AT_FDCWD, path, _AT_SYMLINK_NOFOLLOW), buffer, self._pack_stat)

    def _fstat(self, call: Call) -> None:
        number, buffer = call.arguments[:2]
        self._tell(call, (as_int(number), 0, libc.AT_EMPTY_PATH), buffer, self._pack_stat)

    def _newfstatat(self, call: Call) -> None:
        directory, path, buffer, flags = call.arguments[:4]
        self._tell(call, (as_int(directory), path, as_int(flags)), buffer, self._pack_stat)

    def _statx(self, call: Call) -> None:
        directory, path, flags, _, buffer = call.arguments[:5]
        self._tell(call, (as_int(directory), path, as_int(flags)), buffer, statbuf.statx)

    def _tell(
        self,
        call: Call,
        place: tuple[int, int, int],
        buffer: int,
        pack: Callable[[Shown], bytes],
    ) -> None:
        """Nothing recorded: the kernel tells it.  Errors are the kernel's to tell as well."""
        try:
            target = self._recorded_target(call, *place)
        except (OSError, ValueError):
            target = -1
        if target < 0:
            self._listener.proceed(call)
            return
        try:
            shown = self._shown(target)
        finally:
            os.close(target)
        if shown is None:
            self._listener.proceed(call)
        elif self._listener.waits(call):
            self._view.write(call, buffer, pack(shown))
            self._listener.answer(call)

    def _recorded_target(self, call: Call, directory: int, address: int, flags: int) -> int:
        """Like :meth:`_target`; -1 at once for the many files of which nothing is recorded."""
        path = self._path(call, address, flags)
        if not (self._special or self._below):
            follow = not flags & _AT_SYMLINK_NOFOLLOW
            if not self._view.has_record(call, directory, path, follow=follow):
                return -1
        return self._at(call, directory, path, flags)

    def _shown(self, target: int) -> Shown | None:
        """A file's status as the payload shall see it; None where it is as it is."""
        known = self._recorded(target)
        if known is None:
            return None
        status = os.fstat(target)
        mode, device = status.st_mode, status.st_rdev
        if known.kind:
            mode = stat.S_IMODE(mode) | (stat.S_IFBLK if known.kind == "block" else stat.S_IFCHR)
            device = os.makedev(known.major, known.minor)
        return Shown(status=status, uid=known.uid, gid=known.gid, mode=mode, device=device)

    def _pack_stat(self, shown: Shown) -> bytes:
        return statbuf.stat(shown, self._machine)


def _inherits_group(target: int) -> bool:
    """Whether a file lies in a directory that gives its group to what is made there."""
    try:
        directory = os.stat(os.path.dirname(os.readlink(f"{target}")))
    except OSError:
        return False
    return bool(directory.st_mode & stat.S_ISGID)


def _device(number: int) -> int:
    """The device of a system call, in the form of the C library."""
    low = number & 0xFFFFFFFF
    return os.makedev((low & 0xFFF00) >> 8, (low & 0xFF) | ((low >> 12) & 0xFFF00))


def _make_placeholder(parent: int, name: bytes, permissions: int, mode: int, device: int) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
    made = os.open(name, flags, 0o600, dir_fd=parent)
    try:
        single.set_node(made, block=stat.S_ISBLK(mode), device=device)
        os.fchmod(made, permissions)
    except OSError as error:
        os.unlink(name, dir_fd=parent)
        raise OSError(errno.EPERM, "device") from error
    finally:
        os.close(made)
