"""The processes that unpack layers: root of a user namespace, forked before any thread.

``fork`` and ``unshare`` belong to single-threaded processes, and the pull
pipeline has threads.  So one helper is forked into the user namespace first; it
forks a child for each layer it is handed, with the descriptors of the data and
of the answer.  Nothing in them imports or executes anything once a layer has
begun.
"""

from __future__ import annotations

import os
import socket
from functools import partial

from podpy import files
from podpy.errors import StoreError
from podpy.kernel import process, userns
from podpy.storage import answers, extract, tar, usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from podpy.storage.extract import Limits

_REQUEST_LIMIT = 1 << 16


class Unpacker:
    """The handle of the helper; use as a context manager, start it before any thread."""

    def __init__(self) -> None:
        mapping = userns.root_map()
        self.is_single = mapping.is_single
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # What _serve and _unpack need is imported: they run where nothing may be.

        def child() -> int:
            ours.close()
            return _serve(theirs, single=mapping.is_single)

        self._pid = userns.fork_mapped(child, mapping, mount_ns=False)
        theirs.close()
        self._socket = ours

    def __enter__(self) -> Unpacker:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()
        process.wait(self._pid)

    def start(self, directory: str, data: int, limits: Limits) -> int:
        """Unpack the tar stream of the descriptor ``data`` into an empty directory.

        Returns a descriptor from which :func:`podpy.storage.answers.result` reads the answer.
        """
        request = {"directory": directory, "size": limits.size, "entries": limits.entries}
        return self._ask(request, data)

    def remove(self, path: str) -> None:
        """Delete a tree, whoever owns what is in it; nothing is forked here."""
        if files.remove_tree(path):
            answers.result(self._ask({"remove": path}))

    def _ask(self, request: dict[str, Any], *data: int) -> int:
        """Hand a request over with its descriptors; returns that of the answer."""
        answer, theirs = os.pipe()
        try:
            socket.send_fds(self._socket, [files.dumps(request).encode()], [theirs, *data])
        except OSError:
            os.close(answer)
            raise StoreError("the process that unpacks layers has died") from None
        finally:
            os.close(theirs)
        return answer


def _serve(requests: socket.socket, *, single: bool) -> int:
    """Fork a child for each layer until the other end is closed."""
    import signal

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
    os.umask(0)
    answers.raise_descriptor_limit()
    while True:
        message, fds, _, _ = socket.recv_fds(requests, _REQUEST_LIMIT, 2)
        if not message:
            return 0
        process.fork_child(partial(_job, requests, message, fds, single=single))
        for fd in fds:
            os.close(fd)


def _job(requests: socket.socket, message: bytes, fds: list[int], *, single: bool) -> int:
    """One request in a process of its own; the answer is one JSON object."""
    requests.close()
    answer, *data = fds
    request = files.loads(message)
    if data:
        answers.reply(answer, partial(_unpack, request, data[0], single))
    else:
        answers.reply(answer, partial(_remove, request["remove"]))
    return 0


def _remove(path: str) -> dict[str, Any]:
    if left := files.remove_tree(path):
        raise StoreError(f"{left[0]}: cannot be deleted")
    return {}


def _unpack(request: dict[str, Any], data: int, single: bool) -> dict[str, Any]:
    root = os.open(request["directory"], files.O_DIR | os.O_NOFOLLOW)
    os.fchown(root, 0, 0)
    os.fchmod(root, 0o755)  # a setgid parent directory would have handed its group down
    limits = extract.Limits(size=request["size"], entries=request["entries"])
    extractor = extract.Extractor(root, single=single, limits=limits)
    reader = tar.Reader(tar.Stream(data))
    extractor.run(reader)
    reader.stream.drain()
    size, inodes = usage.measure(root)
    return {
        "size": size,
        "inodes": inodes,
        "records": extractor.records,
        "whiteouts": extractor.whiteouts,
    }
