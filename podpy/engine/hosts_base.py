"""``--hosts-file``: what a container's hosts file begins with, in place of podpy's own lines."""

from __future__ import annotations

import errno
import os
import stat

from podpy import files
from podpy.errors import HostError, UsageError
from podpy.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.model import ContainerRecord
    from podpy.paths import Store

_LIMIT = 1 << 20
_OPAQUE = "user.overlay.opaque"


def check(text: str) -> str:
    """An absolute path, ``image`` or ``none``."""
    if text and text not in ("image", "none") and not text.startswith("/"):
        raise UsageError(
            f"--hosts-file: {text!r} is not an absolute path", hint="a path, image or none"
        )
    return text


def text(store: Store, record: ContainerRecord) -> str:
    """The beginning of the hosts file that the record asks for."""
    if record.hosts_file == "none":
        return ""
    if record.hosts_file == "image":
        return _of_image(store, record)
    try:
        return files.read_bytes(record.hosts_file, limit=_LIMIT).decode(errors="replace")
    except OSError as error:
        raise HostError(f"--hosts-file: {record.hosts_file}: {error.strerror}") from None


def _of_image(store: Store, record: ContainerRecord) -> str:
    """The image's own file, from the topmost layer that says something about it."""
    trees = [f"{store.layers}/{name.removeprefix('sha256:')}/diff" for name in record.layers[::-1]]
    for tree in [record.rootfs] if record.rootfs else trees:
        try:
            found = _read(tree)
        except OSError as error:
            raise HostError(f"--hosts-file image: {tree}: {error.strerror}") from None
        if found is not None:
            return found
    return ""


def _read(tree: str) -> str | None:
    """``/etc/hosts`` of one layer; None when the layers below have a say.

    Opened within the tree: an image must not show a file of the host's.
    """
    root = os.open(tree, libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = libc.openat2(
            root, "etc/hosts", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC,
            resolve=libc.RESOLVE_IN_ROOT | libc.RESOLVE_NO_MAGICLINKS,
        )  # fmt: skip
    except OSError as error:
        if error.errno == errno.ENXIO:
            return ""  # a whiteout: a device without a driver
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        return "" if _hides_what_is_below(tree) else None
    finally:
        os.close(root)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, _LIMIT).decode(errors="replace")
    finally:
        os.close(fd)


def _hides_what_is_below(tree: str) -> bool:
    try:
        return os.getxattr(f"{tree}/etc", _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False
