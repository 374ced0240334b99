"""Every system call that the standard library does not wrap: one thin function each.

Constants keep the kernel's spelling.  Every function raises ``OSError`` with
the kernel's errno, and the path where there is one.  ``argtypes`` are set once,
below.  This is the only module that imports ``ctypes`` (5 ms), and commands that
only read (``ps``, ``inspect``, ``version`` …) never import it.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

# --- namespaces: clone(2), unshare(2), setns(2) ---
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

# --- mount(2), umount2(2) ---
MS_NOSUID = 2
MS_NODEV = 4
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2

# --- openat2(2) ---
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
O_PATH = 0o10000000

_ATTEMPTS = 128  # of a path whose ".." cannot be proven to stay below the root

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

# --- the mount API of 5.2: open_tree(2), move_mount(2), fsopen(2), mount_setattr(2) ---
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x00000004
MOVE_MOUNT_T_EMPTY_PATH = 0x00000040
FSOPEN_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
FSMOUNT_CLOEXEC = 1
MOUNT_ATTR_RDONLY = 0x00000001
MOUNT_ATTR_NOSUID = 0x00000002
MOUNT_ATTR_NODEV = 0x00000004
MOUNT_ATTR_NOEXEC = 0x00000008
MOUNT_ATTR_NOATIME = 0x00000010

CLOSE_RANGE_CLOEXEC = 4

# --- prctl(2) ---
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

# --- keyctl(2) ---
KEYCTL_JOIN_SESSION_KEYRING = 1

# --- seccomp(2) ---
SECCOMP_SET_MODE_FILTER = 1

# --- setsockopt(2) ---
SOL_SOCKET, SO_ATTACH_FILTER = 1, 26

LINUX_CAPABILITY_VERSION_3 = 0x20080522

#: Numbers of the calls that differ between architectures; those above 424 do not.
_NUMBERS = {
    "x86_64": {"pivot_root": 155, "capset": 126, "keyctl": 250, "seccomp": 317},
    "aarch64": {"pivot_root": 41, "capset": 91, "keyctl": 219, "seccomp": 277},
}
_COMMON = {
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "clone3": 435, "close_range": 436, "openat2": 437, "mount_setattr": 442,
}  # fmt: skip
_numbers = {**_COMMON, **_NUMBERS.get(os.uname().machine, {})}

_long, _char_p, _void_p, _int = ctypes.c_long, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int
_syscall = _libc.syscall
_syscall.restype = _long
_unshare = _libc.unshare
_unshare.argtypes = [_int]
_setns = _libc.setns
_setns.argtypes = [_int, _int]
_mount = _libc.mount
_mount.argtypes = [_char_p, _char_p, _char_p, ctypes.c_ulong, _char_p]
_umount2 = _libc.umount2
_umount2.argtypes = [_char_p, _int]
_prctl = _libc.prctl
_prctl.argtypes = [_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_sethostname = _libc.sethostname
_sethostname.argtypes = [_char_p, ctypes.c_size_t]
_setdomainname = _libc.setdomainname
_setdomainname.argtypes = [_char_p, ctypes.c_size_t]


_setsockopt = _libc.setsockopt
_setsockopt.argtypes = [_int, _int, _int, _void_p, ctypes.c_uint]


def _fail(path: str = "") -> OSError:
    number = ctypes.get_errno()
    named = (path,) if path else ()
    return OSError(number, os.strerror(number), *named)


def _call(name: str, *arguments: Any, path: str = "") -> int:
    """``syscall(2)`` by name.  Integers are passed as C longs, pointers as they are."""
    try:
        number = _numbers[name]
    except KeyError:
        raise OSError(38, f"no system call number of {name} for {os.uname().machine}") from None
    prepared = [_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = _syscall(_long(number), *prepared)
    if result < 0:
        raise _fail(path)
    return result


def _bytes(text: str | bytes | None) -> bytes | None:
    return os.fsencode(text) if text is not None else None


def unshare(flags: int) -> None:
    """unshare(2): new namespaces for the caller."""
    if _unshare(flags) < 0:
        raise _fail()


def fork_into_cgroup(cgroup_fd: int) -> int:
    """fork(2) of a process without threads; the child is born in that cgroup (clone3(2))."""
    sigchld = 17
    fields = (CLONE_INTO_CGROUP, 0, 0, 0, sigchld, 0, 0, 0, 0, 0, cgroup_fd)
    arguments = (ctypes.c_uint64 * len(fields))(*fields)
    return _call("clone3", arguments, ctypes.sizeof(arguments))


def setns(fd: int, flags: int = 0) -> None:
    """setns(2): join the namespace(s) behind a namespace descriptor or a pidfd."""
    if _setns(fd, flags) < 0:
        raise _fail()


def mount(
    source: str | None,
    target: str,
    kind: str | None = None,
    flags: int = 0,
    data: str | None = None,
) -> None:
    """mount(2)."""
    if _mount(_bytes(source), _bytes(target), _bytes(kind), flags, _bytes(data)) < 0:
        raise _fail(target)


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    if _umount2(_bytes(target), flags) < 0:
        raise _fail(target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _call("pivot_root", _char_p(_bytes(new_root)), _char_p(_bytes(put_old)), path=new_root)


def sethostname(name: str) -> None:
    """sethostname(2)."""
    encoded = os.fsencode(name)
    if _sethostname(encoded, len(encoded)) < 0:
        raise _fail(name)


def setdomainname(name: str) -> None:
    """setdomainname(2): the NIS domain."""
    encoded = os.fsencode(name)
    if _setdomainname(encoded, len(encoded)) < 0:
        raise _fail(name)


class _OpenHow(ctypes.Structure):
    """``struct open_how`` of openat2(2)."""

    _fields_ = [
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    ]


def openat2(dir_fd: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2): a new descriptor; ``O_CLOEXEC`` is always set.

    Where a path has ``..``, any rename or mount on the host at that moment makes
    the kernel answer EAGAIN rather than be sure of the root: then it is tried again.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    size = ctypes.sizeof(how)
    for attempt in range(_ATTEMPTS):
        try:
            return _call(
                "openat2", dir_fd, _char_p(_bytes(path)), ctypes.byref(how), size, path=path
            )
        except BlockingIOError:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def open_tree(dir_fd: int, path: str, flags: int) -> int:
    """open_tree(2): a descriptor of a mount, or with ``OPEN_TREE_CLONE`` of a detached copy."""
    return _call("open_tree", dir_fd, _char_p(_bytes(path)), flags | OPEN_TREE_CLOEXEC, path=path)


def move_mount(from_fd: int, to_fd: int) -> None:
    """move_mount(2) of one descriptor onto another."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _call("move_mount", from_fd, _char_p(b""), to_fd, _char_p(b""), flags)


def fsopen(kind: str) -> int:
    """fsopen(2): a new file system context."""
    return _call("fsopen", _char_p(_bytes(kind)), FSOPEN_CLOEXEC, path=kind)


def fsconfig_string(fd: int, key: str, value: str) -> None:
    """fsconfig(2), ``FSCONFIG_SET_STRING``."""
    text = _char_p(_bytes(value))
    _call("fsconfig", fd, FSCONFIG_SET_STRING, _char_p(_bytes(key)), text, 0, path=key)


def fsconfig_flag(fd: int, key: str) -> None:
    """fsconfig(2), ``FSCONFIG_SET_FLAG``."""
    _call("fsconfig", fd, FSCONFIG_SET_FLAG, _char_p(_bytes(key)), _void_p(None), 0, path=key)


def fsconfig_create(fd: int) -> None:
    """fsconfig(2), ``FSCONFIG_CMD_CREATE``: make the superblock."""
    _call("fsconfig", fd, FSCONFIG_CMD_CREATE, _void_p(None), _void_p(None), 0)


def fsmount(fd: int, attributes: int = 0) -> int:
    """fsmount(2): a descriptor of a detached mount."""
    return _call("fsmount", fd, FSMOUNT_CLOEXEC, attributes)


class _MountAttr(ctypes.Structure):
    """``struct mount_attr`` of mount_setattr(2)."""

    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def mount_setattr(
    fd: int, *, set_: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False
) -> None:
    """mount_setattr(2) on the mount behind ``fd``."""
    attributes = _MountAttr(set_, clear, propagation, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _call(
        "mount_setattr", fd, _char_p(b""), flags,
        ctypes.byref(attributes), ctypes.sizeof(attributes),
    )  # fmt: skip


def close_range(first: int, last: int = 0x7FFFFFFF, flags: int = 0) -> None:
    """close_range(2): close every descriptor from ``first`` to ``last``."""
    _call("close_range", first, last, flags)


def prctl(option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    """prctl(2)."""
    result: int = _prctl(option, a, b, c, d)
    if result < 0:
        raise _fail()
    return result


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of the calling thread; each argument is a 64-bit set."""
    words = []
    for shift in (0, 32):
        words += [(s >> shift) & 0xFFFFFFFF for s in (effective, permitted, inheritable)]
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(*words)
    _call("capset", ctypes.byref(header), ctypes.byref(data))


class _SockFprog(ctypes.Structure):
    """``struct sock_fprog`` of seccomp(2)."""

    _fields_ = [("len", ctypes.c_ushort), ("filter", _void_p)]


def seccomp_set_filter(program: bytes, flags: int = 0) -> int:
    """seccomp(2), ``SECCOMP_SET_MODE_FILTER``: load BPF instructions of 8 bytes each."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = _SockFprog(len(program) // 8, ctypes.cast(buffer, _void_p))
    return _call("seccomp", SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(fprog))


def attach_filter(fd: int, program: bytes) -> None:
    """socket(7), ``SO_ATTACH_FILTER``: a packet filter of BPF instructions of 8 bytes each."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = _SockFprog(len(program) // 8, ctypes.cast(buffer, _void_p))
    size = ctypes.sizeof(fprog)
    if _setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, ctypes.byref(fprog), size):
        raise _fail()


def join_session_keyring(name: str) -> None:
    """keyctl(2), ``KEYCTL_JOIN_SESSION_KEYRING``: a new, empty session keyring."""
    _call("keyctl", KEYCTL_JOIN_SESSION_KEYRING, _char_p(_bytes(name)))


def overwrite_arguments(first: int, last: int, text: str) -> None:
    """Write ``text`` over our own arguments, which lie from ``first`` to ``last`` in memory."""
    area = text.encode()[: last - first - 1]
    ctypes.memmove(first, area.ljust(last - first, b"\0"), last - first)


def load_library(*names: str) -> Any:
    """The first shared library that exists, by soname, or None.

    ``find_library`` starts the compiler or ``ldconfig`` (11 ms); the dynamic
    loader knows a soname at once.
    """
    for name in names:
        try:
            return ctypes.CDLL(name, use_errno=True)
        except OSError:
            continue
    return None


class _ArgumentComparison(ctypes.Structure):
    """``struct scmp_arg_cmp`` of seccomp_rule_add(3)."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", _int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


class LibSeccomp:
    """A filter under construction by libseccomp; ``OSError`` when the library refuses.

    It begins without any architecture.  ENOENT when the library is not installed.
    """

    NATIVE = 0
    _OPTIMIZE, _BINARY_TREE = 8, 2

    def __init__(self, default_action: int) -> None:
        self._library = load_library("libseccomp.so.2")
        if self._library is None:
            raise OSError(2, os.strerror(2), "libseccomp.so.2")
        self._library.seccomp_init.restype = _void_p
        self._library.seccomp_init.argtypes = [ctypes.c_uint32]
        self._context = _void_p(self._library.seccomp_init(default_action))
        if not self._context:
            raise OSError(22, "seccomp_init failed")
        self._library.seccomp_arch_remove(self._context, ctypes.c_uint32(self.NATIVE))

    def _check(self, result: int, what: str) -> None:
        if result < 0:
            raise OSError(-result, os.strerror(-result), what)

    def add_architecture(self, token: int) -> None:
        """seccomp_arch_add(3)."""
        result = self._library.seccomp_arch_add(self._context, ctypes.c_uint32(token))
        self._check(result, f"architecture {token:#x}")

    def resolve(self, token: int, name: str) -> int:
        """seccomp_syscall_resolve_name_arch(3); -1 when the library does not know the name."""
        number: int = self._library.seccomp_syscall_resolve_name_arch(
            ctypes.c_uint32(token), _char_p(_bytes(name))
        )
        return number

    def add_rule(
        self, action: int, number: int, comparisons: Sequence[tuple[int, int, int, int]] = ()
    ) -> None:
        """seccomp_rule_add_array(3); ``number`` is what ``resolve(NATIVE, name)`` says.

        A comparison is argument, operator, value, second value.
        """
        converted = [_ArgumentComparison(*comparison) for comparison in comparisons]
        array = (_ArgumentComparison * len(converted))(*converted)
        result = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(comparisons), array
        )
        self._check(result, f"rule for system call {number}")

    def optimise(self) -> None:
        """Ask for a binary tree; libraries before 2.5 do not know it, and the filter is as good."""
        self._library.seccomp_attr_set(
            self._context, self._OPTIMIZE, ctypes.c_uint32(self._BINARY_TREE)
        )

    def export(self) -> bytes:
        """seccomp_export_bpf(3): the finished program."""
        fd = os.memfd_create("seccomp")
        try:
            self._check(self._library.seccomp_export_bpf(self._context, fd), "seccomp_export_bpf")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)
            self._library.seccomp_release(self._context)


class _ZstdBuffer(ctypes.Structure):
    """``ZSTD_inBuffer`` and ``ZSTD_outBuffer`` of zstd.h."""

    _fields_ = [("data", _void_p), ("size", ctypes.c_size_t), ("at", ctypes.c_size_t)]


class ZstdDecompressor:
    """One zstd frame inflated by libzstd, in the shape of ``bz2.BZ2Decompressor``.

    ``OSError`` (ENOENT) when the library is not installed, ``ValueError`` for
    damaged data or a window above ``2**window_log`` bytes.
    """

    _WINDOW_LOG_MAX = 100

    def __init__(self, window_log: int = 27) -> None:
        self._library = library = load_library("libzstd.so.1")
        if library is None:
            raise OSError(2, os.strerror(2), "libzstd.so.1")
        for name in ("ZSTD_DCtx_setParameter", "ZSTD_decompressStream", "ZSTD_freeDCtx"):
            getattr(library, name).restype = ctypes.c_size_t
        library.ZSTD_createDCtx.restype = _void_p
        library.ZSTD_getErrorName.restype = _char_p
        self._context = _void_p(library.ZSTD_createDCtx())
        library.ZSTD_DCtx_setParameter(self._context, self._WINDOW_LOG_MAX, window_log)
        self._input = b""
        self.eof = False
        self.needs_input = True
        self.unused_data = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """At most ``max_length`` bytes of what the input so far allows."""
        source = self._input + data
        room = ctypes.create_string_buffer(max_length)
        out = _ZstdBuffer(ctypes.cast(room, _void_p), max_length, 0)
        given = _ZstdBuffer(ctypes.cast(_char_p(source), _void_p), len(source), 0)
        call = self._library.ZSTD_decompressStream
        left = 1
        while left and out.at < out.size:
            before = (out.at, given.at)
            left = call(self._context, ctypes.byref(out), ctypes.byref(given))
            if self._library.ZSTD_isError(ctypes.c_size_t(left)):
                name = self._library.ZSTD_getErrorName(ctypes.c_size_t(left))
                raise ValueError(name.decode())
            if (out.at, given.at) == before:
                break
        self._input = source[given.at :]
        self.eof = left == 0
        if self.eof:
            self.unused_data, self._input = self._input, b""
        self.needs_input = not self.eof and not self._input and out.at < out.size
        return ctypes.string_at(room, out.at)

    def __del__(self) -> None:
        context = getattr(self, "_context", None)  # None: no library, so no context
        if context:
            self._library.ZSTD_freeDCtx(context)
