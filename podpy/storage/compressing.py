"""Plain layers as gzip: the same bytes for the same layer, on all processors.

One gzip member without name and time.  Pieces of fixed size are deflated side
by side, each with the end of the piece before as its dictionary, so that
neither the number of processors nor chance shows in the result (zlib's version
may).  A layer is compressed once: see :mod:`podpy.storage.packed`.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from podpy.errors import ImageError
from podpy.model import Descriptor
from podpy.records import replace
from podpy.storage import content, layers, manifests, packed
from podpy.storage.content import BlobWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from podpy.paths import Store
    from podpy.storage.collect import Pins

LEVEL = 6
_PIECE = 1 << 20
_WINDOW = 1 << 15
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_PLAIN = {
    manifests.OCI_LAYER: f"{manifests.OCI_LAYER}+gzip",
    manifests.DOCKER_LAYER: f"{manifests.DOCKER_LAYER}.gzip",
}


def is_plain(layer: Descriptor) -> bool:
    return layer.media_type in _PLAIN


def pack(store: Store, pins: Pins, diff_id: str, plain: Descriptor) -> Descriptor:
    """The gzip blob of a plain layer: the one that was made before, or a new one."""
    kind = _PLAIN[plain.media_type]
    known = packed.read(store, diff_id)
    if known is not None and pins.hold(known.digest, content.blob_path(store, known.digest)):
        return replace(known, media_type=kind)
    fd = content.open_blob(store, plain.digest)
    try:
        with BlobWriter(store) as writer:
            for piece in _gzip(fd, plain.size):
                writer.write(piece)
            pins.add(f"sha256:{writer.hash.hexdigest()}")
            made = writer.commit(_PLAIN[manifests.OCI_LAYER])
    finally:
        os.close(fd)
    if layers.exists(store, diff_id):
        packed.remember(store, diff_id, made)
    return replace(made, media_type=kind)


def _gzip(fd: int, size: int) -> Iterator[bytes]:
    check = 0
    yield _HEADER
    workers = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[bytes]] = deque()
        for data, before, is_last in _pieces(fd, size):
            check = zlib.crc32(data, check)
            waiting.append(pool.submit(_deflate, data, before, is_last))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    yield check.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def _pieces(fd: int, size: int) -> Iterator[tuple[bytes, bytes, bool]]:
    """Each piece with the end of the one before, and whether it is the last."""
    offset, before = 0, b""
    while True:
        data = os.pread(fd, min(_PIECE, size - offset), offset)
        offset += len(data)
        if not data and offset < size:
            raise ImageError("layer: its blob is shorter than its record says")
        yield data, before, offset == size
        if offset == size:
            return
        before = data[-_WINDOW:]


def _deflate(data: bytes, before: bytes, is_last: bool) -> bytes:
    form = (LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY)
    deflater = zlib.compressobj(*form, before) if before else zlib.compressobj(*form)
    return deflater.compress(data) + deflater.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH)
