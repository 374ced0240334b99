"""Where podpy keeps what: the XDG directories and the layout of the store.

Nothing here reads or writes files except :func:`runtime_directory`, which must
prove that the directory it returns belongs to the caller and to nobody else.
"""

from __future__ import annotations

import os

from podpy.errors import HostError

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def _xdg(variable: str, default: str) -> str:
    value = os.environ.get(variable, "")
    return value if value.startswith("/") else os.path.join(home(), default)


def home() -> str:
    """The caller's home directory (``$HOME``, else the password database)."""
    if value := os.environ.get("HOME"):
        return value
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        raise HostError(
            f"user {os.getuid()} has no home directory", hint="set HOME to a directory you own"
        ) from None


def data_home() -> str:
    return os.path.join(_xdg("XDG_DATA_HOME", ".local/share"), "podpy")


def cache_home() -> str:
    return os.path.join(_xdg("XDG_CACHE_HOME", ".cache"), "podpy")


def config_home() -> str:
    """``$XDG_CONFIG_HOME`` itself: podpy reads ``podpy/`` and ``containers/`` below it."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def boot_id() -> str:
    """The kernel's identity of this boot, 36 characters."""
    fd = os.open(BOOT_ID, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 64).decode().strip()
    finally:
        os.close(fd)


def _is_private(path: str) -> bool:
    """A real directory, ours, closed to everybody else."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return (
        status.st_mode & 0o170000 == 0o040000
        and status.st_uid == os.geteuid()
        and status.st_mode & 0o077 == 0
    )


def runtime_directory(store: str) -> str:
    """The directory for sockets: ``$XDG_RUNTIME_DIR``, ``/run/user/UID``, or in the store.

    An existing directory is used only when it belongs to the caller and to
    nobody else; never one below ``/tmp``, where a stranger may have made it.
    """
    candidates = (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.geteuid()}")
    for base in candidates:
        if base.startswith("/") and _is_private(base) and os.access(base, os.W_OK):
            path = os.path.join(base, "podpy")
            break
    else:
        path = os.path.join(store, "run", boot_id())
    _make_private(path)
    return path


def _make_private(path: str) -> None:
    try:
        os.makedirs(path, 0o700, exist_ok=True)
    except OSError as error:
        raise HostError(f"runtime directory {path}: {error.strerror}") from None
    if not _is_private(path):
        raise HostError(
            f"runtime directory {path}: belongs to somebody else or is open to others",
            hint=f"remove it, or `chmod 700 {path}` if it is yours",
        )


def _make_closed(path: str) -> None:
    """``mkdir -p`` with mode 0700 for every missing part; ``makedirs`` minds the last only."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_closed(os.path.dirname(path))
        os.mkdir(path, 0o700)


class Store:
    """The layout below the store's root and the runtime directory; paths only.

    ``root`` and ``runroot`` default to the XDG directories; ``--root`` and
    ``--runroot`` override them.
    """

    def __init__(self, root: str = "", runroot: str = "") -> None:
        self.root = os.path.abspath(root) if root else data_home()
        self._runroot = os.path.abspath(runroot) if runroot else ""
        self.content = f"{self.root}/content"
        self.blobs = f"{self.content}/blobs/sha256"
        self.names = f"{self.root}/names"
        self.layers = f"{self.root}/layers"
        self.containers = f"{self.root}/containers"
        self.container_names = f"{self.root}/containers/.names"
        self.volumes = f"{self.root}/volumes"
        self.networks = f"{self.root}/networks"
        self.events = f"{self.root}/events.jsonl"
        self.locks = f"{self.root}/locks"
        self.tmp = f"{self.root}/tmp"

    @property
    def run(self) -> str:
        """The runtime directory (sockets); made, and proved to be ours, on first use."""
        if not self._runroot:
            self._runroot = runtime_directory(self.root)
        else:
            _make_private(self._runroot)
        return self._runroot

    def container(self, container_id: str) -> str:
        return f"{self.containers}/{container_id}"

    def container_run(self, container_id: str) -> str:
        return f"{self.run}/{container_id}"

    @property
    def network_run(self) -> str:
        """Where the network supervisor of this store lives.

        A store elsewhere has one of its own: two stores may know two networks of
        one name, or of one subnet.
        """
        if self.root == os.path.abspath(data_home()):
            return f"{self.run}/network"
        from binascii import crc32

        return f"{self.run}/network.{crc32(os.fsencode(self.root)):08x}"

    def prepare(self) -> None:
        """Make the directories of the store; one ``stat`` when they are there.

        All are closed to other users: layers hold setuid programs of whoever
        made the image, and records the environment of containers.
        """
        if os.path.isdir(self.tmp):
            return
        for path in (
            self.blobs,
            self.names,
            self.layers,
            self.container_names,
            self.volumes,
            self.locks,
            self.tmp,  # last: its presence says that the others are there
        ):
            _make_closed(path)
