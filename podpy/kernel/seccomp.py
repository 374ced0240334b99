"""Seccomp filters: the default one, which ships assembled, and the user's own profiles.

The default profile is that of containers-common, the one podman uses: a list of
allowed calls, ``EPERM`` for known dangerous ones, ``ENOSYS`` for everything
else, so that programs fall back from calls newer than the list.  Some calls
depend on the container's capabilities; the filter for the default set is a
constant, another set costs a millisecond to assemble.  Only users' own profiles
need libseccomp; what it compiles is cached.
"""

from __future__ import annotations

import os

from podpy import files, paths
from podpy.errors import HostError, PodpyError
from podpy.kernel import capabilities as caps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT = "default"
UNCONFINED = "unconfined"

_CACHE_VERSION = "1"
_DIGEST_SIZE = 32

# linux/seccomp.h
_FLAG_NEW_LISTENER = 1 << 3
_FLAG_WAIT_KILLABLE_RECV = 1 << 5  # Linux 5.19


def for_container(profile: str, capabilities: Iterable[str]) -> bytes:
    """The BPF program of a container's record; empty for no filter.

    ``profile`` is ``default``, ``unconfined`` or the text of a JSON profile, as
    :func:`read_profile` returns it.
    """
    if profile == UNCONFINED:
        return b""
    if profile == DEFAULT:
        return default_filter(capabilities)
    return custom_filter(profile, capabilities)


def default_filter(capabilities: Iterable[str]) -> bytes:
    """The default profile for a process whose bounding set is ``capabilities``."""
    machine = os.uname().machine
    if frozenset(capabilities) == frozenset(caps.DEFAULT):
        from podpy.kernel import seccomp_default

        program = seccomp_default.PROGRAMS.get(machine)
    else:
        from podpy.kernel import seccomp_tables

        program = seccomp_tables.assemble(machine, frozenset(capabilities))
    if program is None:
        raise HostError(
            f"no default seccomp profile for {machine}",
            hint="give one by --security-opt seccomp=FILE, or run with seccomp=unconfined",
        )
    return program


def read_profile(path: str) -> str:
    """A profile file as the compact JSON text that goes into the container's record.

    The text and not the path: what a container runs under must not change when
    the file does.
    """
    from podpy.kernel import seccomp_profile

    return seccomp_profile.read(path)


def custom_filter(profile: str, capabilities: Iterable[str]) -> bytes:
    """Compile the JSON text ``profile``, or take the program from the cache."""
    path = f"{paths.cache_home()}/seccomp/{_cache_key(profile, capabilities)}.bpf"
    if program := _cached(path):
        return program
    from podpy.kernel import seccomp_profile

    program = seccomp_profile.compile_text(profile, frozenset(capabilities))
    try:
        files.make_directory(os.path.dirname(path))
        files.write_atomic(path, _digest(program) + program)
    except OSError:
        pass  # a full or read-only cache costs time, nothing else
    return program


def load_with_listener(program: bytes) -> int:
    """Load a filter of which another process answers calls (:mod:`podpy.kernel.notify`).

    Returns the listener's descriptor.  A call that waits is not interrupted by
    signals where the kernel knows how: one that is begun twice may find its own work.
    """
    from podpy.kernel import libc  # imports ctypes

    try:
        return libc.seccomp_set_filter(program, _FLAG_NEW_LISTENER | _FLAG_WAIT_KILLABLE_RECV)
    except OSError:
        return libc.seccomp_set_filter(program, _FLAG_NEW_LISTENER)


def _cache_key(profile: str, capabilities: Iterable[str]) -> str:
    system = os.uname()
    parts = (_CACHE_VERSION, system.machine, system.release, *sorted(capabilities), profile)
    return _digest("\0".join(parts).encode()).hex()


def _digest(data: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(data).digest()


def _cached(path: str) -> bytes:
    """The program in a cache file; empty when there is none that is ours and whole."""
    try:
        status = os.lstat(path)
        if status.st_uid != os.geteuid() or status.st_mode & 0o177:
            return b""
        content = files.read_bytes(path, limit=1 << 20)
    except (OSError, PodpyError):
        return b""
    program = content[_DIGEST_SIZE:]
    return program if program and _digest(program) == content[:_DIGEST_SIZE] else b""
