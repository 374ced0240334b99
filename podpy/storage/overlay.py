"""How layers become one root file system: the drivers, what they need, which one to use.

``overlay`` is the kernel's overlayfs, mounted in the user namespace
(``userxattr``, Linux 5.11 and later); ``fuse-overlayfs`` a program that does
the same; ``vfs`` a copy of all layers, by reflink where the file system can.
Which one works is probed once per boot and store file system and remembered;
the mount itself belongs to whoever starts the container.
"""

from __future__ import annotations

import os

from podpy import files
from podpy.errors import HostError, StoreError, UsageError
from podpy.kernel import process
from podpy.records import record
from podpy.settings import DRIVERS
from podpy.storage.content import hex_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from podpy.paths import Store

_PROBE_VERSION = 1


@record
class Driver:
    """The driver in use, and why not a better one."""

    name: str
    program: str = ""
    reasons: tuple[str, ...] = ()


def lower_directories(store: Store, diff_ids: Iterable[str]) -> tuple[str, ...]:
    """The trees of an image's layers, topmost first, as overlayfs lists them.

    A layer that occurs twice counts where it lies highest: overlayfs refuses
    one directory twice, and what the lower one brings is hidden anyway.
    :class:`StoreError` names a layer that is not there.
    """
    found: dict[str, None] = {}
    for diff_id in reversed(tuple(diff_ids)):
        path = f"{store.layers}/{hex_of(diff_id)}"
        if f"{path}/diff" not in found:
            if not os.path.exists(f"{path}/settled"):
                _settle(store, diff_id)
            found[f"{path}/diff"] = None
    return tuple(found) or (_empty(store),)


def _settle(store: Store, diff_id: str) -> None:
    """A layer made in this boot is as the kernel has it; one of an earlier boot is looked at."""
    try:
        values = files.read_json(f"{store.layers}/{hex_of(diff_id)}/layer.json")
    except FileNotFoundError:
        raise StoreError(
            f"layer {diff_id}: not in the store", hint="pull or load the image again"
        ) from None
    if values.get("boot") != process.current_boot():
        from podpy.storage import layers, settling

        settling.settle(store, layers.read(store, diff_id))


def _empty(store: Store) -> str:
    """An image without layers still needs one lower directory, open to all its users."""
    path = f"{store.root}/empty"
    files.make_directory(path)
    os.chmod(path, 0o755)
    return path


def driver(store: Store, wanted: str = "", program: str = "") -> Driver:
    """The driver to use: the configured one, or the best that works on this host.

    The probe's record is ``driver.json`` in the store, good for one boot and one
    file system; a container keeps the driver it was created with.
    """
    if wanted and wanted not in DRIVERS:
        raise UsageError(f"storage driver {wanted!a}: podpy has {', '.join(DRIVERS)}")
    key = f"{process.current_boot()}:{os.stat(store.tmp).st_dev}:{os.geteuid()}"
    known = _remembered(store, key)
    if known is None:
        known = _probe(store, program)
        files.write_json(
            f"{store.root}/driver.json",
            {
                "version": _PROBE_VERSION,
                "key": key,
                "works": list(known),
                "reasons": list(known.values()),
            },
        )
    return _choose(known, wanted, program)


def _remembered(store: Store, key: str) -> dict[str, str] | None:
    try:
        values = files.read_json(f"{store.root}/driver.json")
    except FileNotFoundError:
        return None
    if values.get("version") != _PROBE_VERSION or values.get("key") != key:
        return None
    return dict(zip(values["works"], values["reasons"]))


def _choose(known: dict[str, str], wanted: str, program: str) -> Driver:
    """``known`` maps each driver to the reason why it does not work, or to nothing."""
    reasons = tuple(f"{name}: {why}" for name, why in known.items() if why)
    for name in (wanted,) if wanted else DRIVERS:
        if not known[name]:
            helper = program or process.find_program(name) if name == "fuse-overlayfs" else ""
            return Driver(name=name, program=helper, reasons=reasons)
    raise HostError(f"storage driver {wanted}: {known[wanted]}", hint=_remedy(wanted))


def _remedy(name: str) -> str:
    if name == "overlay":
        return "it needs Linux 5.11 and a store on ext4, xfs, btrfs or tmpfs"
    return "install the package fuse-overlayfs and see that /dev/fuse may be opened"


def _probe(store: Store, program: str) -> dict[str, str]:
    """Every driver with the reason why it does not work here; empty when it does."""
    return {
        "overlay": _probe_overlay(store),
        "fuse-overlayfs": _probe_fuse(program),
        "vfs": "",
    }


def _probe_overlay(store: Store) -> str:
    """Mount an overlay below ``tmp/``, write through it and delete through it."""
    from podpy.kernel import userns
    from podpy.storage import staging

    path = staging.create(store, "probe")
    reading, writing = os.pipe()
    try:
        process.wait(userns.fork_mapped(lambda: _try_overlay(path, writing)))
        os.close(writing)
        writing = -1
        answer = os.read(reading, 4096).decode(errors="replace")
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
        staging.remove_tree(path)
    return "" if answer == "ok" else answer or "the probe died"


def _try_overlay(path: str, answer: int) -> int:
    """In the child: what a container does to its root file system."""
    from podpy.kernel import libc

    try:
        os.chdir(path)
        for name in ("lower", "lower/dir", "upper", "work", "merged"):
            os.mkdir(name)
        os.close(os.open("lower/file", os.O_WRONLY | os.O_CREAT))
        options = "userxattr,lowerdir=lower,upperdir=upper,workdir=work"
        libc.mount("overlay", "merged", "overlay", 0, options)
        os.chmod("merged/file", 0o600)
        os.unlink("merged/file")
        os.rmdir("merged/dir")
        os.mkdir("merged/dir")
        os.setxattr("merged/dir", "user.probe", b"1")
        os.write(answer, b"ok")
    except OSError as error:
        os.write(answer, f"{error.strerror}".encode())
        return 1
    return 0


def _probe_fuse(program: str) -> str:
    if not (program or process.find_program("fuse-overlayfs")):
        return "the program is not installed"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    return ""
