"""A supervisor in 8 MB: re-execution with nothing but compiled code and data.

A process forked from the command line drags its modules along for as long as
the container lives.  ``execve`` drops them: the new interpreter gets the
compiled code of the few modules it needs, the task and the carried state in one
sealed memory file, and its streams as inherited descriptors.  It reads no file
of podpy's, so replacing or removing podpy under running containers is harmless.

Children stay children, the subreaper stays one, and the process is dumpable
again, as a process of the user's without secrets should be.

The code that deletes a removed container's tree lies in the same file.  It is
loaded, with the parts of the standard library it needs, only when that time comes.
"""

from __future__ import annotations

import fcntl
import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# This module comes first: the bootstrap finds it at the beginning of the file.
_SUPERVISOR = (
    "runtime.lean",
    "kernel.loop",
    "runtime.frames",
    "runtime.clients",
    "runtime.logs",
    "runtime.traffic",
    "runtime.teardown",
    "runtime.diary",
    "runtime.supervisor",
)
_SWEEP = (
    "errors",
    "records",
    "netmodel",
    "model",
    "paths",
    "files",
    "kernel.process",
    "kernel.libc",
    "kernel.userns",
    "storage.staging",
)
_PACKAGES = ("podpy", "podpy.runtime", "podpy.kernel", "podpy.storage")
_ENVIRONMENT = ("PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME", "TMPDIR")
# The file: this module's code, the others', the index, and where the index begins.
_TAIL = 8
_OWN_CODE = 1 << 16  # enough to read this module's code; what follows it does no harm

# All that the new interpreter is told; ``ps`` shows it.  A module that stands in
# for ``__future__`` spares a search through the directories of the library.
_BOOTSTRAP = (
    "import marshal,posix,sys;sys.modules['__future__']=sys;sys.annotations=None;"
    f"exec(marshal.loads(posix.pread(%d,{_OWN_CODE},0)));wake(%d)"
)

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Bundle:
    """An importer of the modules in a memory file (PEP 451's finder and loader)."""

    def __init__(self, fd: int, code: dict[str, tuple[int, int]]) -> None:
        self._fd = fd
        self._code = code

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> Any:
        if name not in self._code and name not in _PACKAGES:
            return None
        specification: Any = sys.modules["_frozen_importlib"].ModuleSpec
        return specification(name, self, is_package=name in _PACKAGES)

    def create_module(self, _spec: object) -> None:
        """The default module object will do."""

    def exec_module(self, module: Any) -> None:
        if module.__name__ in self._code:
            offset, size = self._code[module.__name__]
            exec(marshal.loads(posix.pread(self._fd, size, offset)), module.__dict__)


def load(entry: str) -> Callable[..., object]:
    """The function ``"module:function"``, from the bundle or wherever our code comes from."""
    module, _, function = entry.partition(":")
    __import__(module)
    found: Callable[..., object] = getattr(sys.modules[module], function)
    return found


def reexecute(
    entry: str, task: dict[str, Any], carried: dict[str, Any], descriptors: list[int]
) -> None:
    """Go on as ``entry(task, carried)`` in a new interpreter that inherits ``descriptors``.

    ``entry`` is ``"module:function"``.  Raises ``OSError`` where it is impossible.
    """
    names = [f"podpy.{name}" for name in _SUPERVISOR]
    if task.get("link"):
        names += ["podpy.kernel.packets", "podpy.runtime.link"]
    if task["remove"] and task.get("sweep"):
        names += [f"podpy.{name}" for name in _SWEEP]
    state = {"entry": entry, "arguments": (task, carried), "descriptors": descriptors}
    bundle = _bundle(names, state)
    kept = {bundle, *descriptors}
    for fd in map(int, posix.listdir("/proc/self/fd")):
        if fd > 2:
            _set_inheritable(fd, fd in kept)
    python = sys.executable or "/proc/self/exe"
    title = f"podpy supervisor of {task['name']} {task['id'][:12]}"
    environment = {k: v for k, v in posix.environ.items() if k.decode() in _ENVIRONMENT}
    environment[b"LC_ALL"] = b"POSIX"  # UTF-8 by PEP 540, without loading a locale
    try:
        posix.execve(
            python, [python, "-IS", "-c", _BOOTSTRAP % (bundle, bundle), title], environment
        )
    finally:
        for fd in kept:
            _set_inheritable(fd, False)
        posix.close(bundle)


def wake(fd: int) -> None:
    """The first call in the new interpreter."""
    end = posix.fstat(fd).st_size - _TAIL
    start = int.from_bytes(posix.pread(fd, _TAIL, end), "little")
    index = marshal.loads(posix.pread(fd, end - start, start))
    for each in (fd, *index["descriptors"]):
        _set_inheritable(each, False)
    finders: list[Any] = sys.meta_path
    finders.insert(0, Bundle(fd, index["code"]))
    name_process()
    load(index["entry"])(*index["arguments"])


def name_process() -> None:
    """The name that ``ps`` and ``top`` show; without it, all are called ``python3``."""
    try:
        fd = posix.open("/proc/self/comm", posix.O_WRONLY | posix.O_CLOEXEC)
    except OSError:
        return
    try:
        posix.write(fd, b"podpy")
    finally:
        posix.close(fd)


def _set_inheritable(fd: int, wanted: bool) -> None:
    try:
        posix.set_inheritable(fd, wanted)
    except OSError:
        pass  # the descriptor that listed the others


def _bundle(names: list[str], state: dict[str, Any]) -> int:
    """The sealed memory file: code of every module, index, where the index begins."""
    parts = []
    table = {}
    offset = 0
    for name in names:
        parts.append(_code(name))
        table[name] = (offset, len(parts[-1]))
        offset += len(parts[-1])
    parts += [marshal.dumps({**state, "code": table}), offset.to_bytes(_TAIL, "little")]
    fd = posix.memfd_create("podpy", posix.MFD_CLOEXEC | posix.MFD_ALLOW_SEALING)
    posix.writev(fd, parts)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def _code(name: str) -> bytes:
    """A module's compiled code, from wherever this process has it: pyc, zip or bundle."""
    __import__(name)
    loader: Any = sys.modules[name].__spec__.loader  # type: ignore[union-attr]
    return marshal.dumps(loader.get_code(name))
