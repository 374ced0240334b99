"""Blobs: an OCI image layout that every image of the store shares.

``content/`` is an OCI image layout (OCI image-spec, ``image-layout.md``):
``oci-layout``, ``index.json`` and ``blobs/sha256/<hex>``.  A blob appears under
its digest only after all its bytes were hashed and counted, by ``rename``; what
is there is what its name says.  Docker schema 2 manifests are kept byte for
byte beside OCI ones, so that digests survive ``pull``, ``save`` and ``push``.

Reading is on the hot path of ``run``; ``hashlib`` is imported only by writers.
"""

from __future__ import annotations

import errno
import os

from podpy import files
from podpy.errors import ImageError, StoreError
from podpy.model import Descriptor
from podpy.storage import staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.paths import Store

_HEX = frozenset("0123456789abcdef")

#: What the file ``oci-layout`` of every layout says.
LAYOUT = '{"imageLayoutVersion":"1.0.0"}'
MANIFEST_LIMIT = 4 << 20
CONFIG_LIMIT = 8 << 20


def hex_of(digest: str) -> str:
    """The 64 digits of a ``sha256:`` digest.

    The one door from a digest to a path: anything but the exact form is an
    :class:`ImageError` (a digest like ``sha256:../../x`` names no file here).
    """
    algorithm, colon, digits = digest.partition(":")
    if algorithm == "sha256" and len(digits) == 64 and _HEX.issuperset(digits):
        return digits
    if colon and algorithm in ("sha384", "sha512"):
        raise ImageError(f"digest {digest[:160]!a}: only sha256 is supported")
    raise ImageError(f"digest {digest[:160]!a}: not sha256: and 64 hexadecimal digits")


def blob_path(store: Store, digest: str) -> str:
    return f"{store.blobs}/{hex_of(digest)}"


def has_blob(store: Store, digest: str) -> bool:
    return os.path.exists(blob_path(store, digest))


def read_blob(store: Store, digest: str, limit: int = MANIFEST_LIMIT) -> bytes:
    """A small blob, whole; :class:`StoreError` when it is missing or above ``limit``."""
    try:
        return files.read_bytes(blob_path(store, digest), limit=limit)
    except FileNotFoundError:
        raise StoreError(
            f"blob {digest}: not in the store", hint="pull or load the image again"
        ) from None


def open_blob(store: Store, digest: str) -> int:
    """A read-only descriptor of a blob."""
    try:
        return os.open(blob_path(store, digest), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StoreError(
            f"blob {digest}: not in the store", hint="pull or load the image again"
        ) from None


class BlobWriter:
    """Writes one blob, hashing and counting it, and publishes it when it is right.

    ``expected`` fixes digest and exact size in advance: a byte too many stops
    the transfer at once.  Without it the digest is whatever was written.  Use
    as a context manager; leaving it without :meth:`commit` discards the bytes.
    ``keep=False`` only checks the bytes, of a blob that is in the store already.
    """

    def __init__(
        self, store: Store, expected: Descriptor | None = None, *, keep: bool = True
    ) -> None:
        import hashlib

        self._store = store
        self._expected = expected
        if expected is not None:
            hex_of(expected.digest)
        self._path = staging.name(store, "blob") if keep else ""
        self.fd = -1
        if keep:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self.fd = os.open(self._path, flags, 0o600)
        self.hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.discard()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes; :class:`ImageError` as soon as there are more than promised."""
        self.size += len(data)
        if self._expected is not None and self.size > self._expected.size:
            raise ImageError(
                f"blob {self._expected.digest}: more than the {self._expected.size} bytes promised"
            )
        self.hash.update(data)
        if self._path:
            files.write_all(self.fd, data)

    def commit(self, media_type: str = "", *, durable: bool = True) -> Descriptor:
        """Check size and digest, make the bytes durable and give them their name.

        Two writers of one blob both succeed: the bytes are the same.
        """
        digest = f"sha256:{self.hash.hexdigest()}"
        expected = self._expected
        if expected is not None and (self.size, digest) != (expected.size, expected.digest):
            raise ImageError(
                f"blob {expected.digest}: got {self.size} bytes of digest {digest}"
                f" instead of {expected.size} bytes"
            )
        if self._path:
            if durable:
                os.fsync(self.fd)
            os.rename(self._path, blob_path(self._store, digest))
            self._path = ""
            if durable:
                files.sync_directory(self._store.blobs)
        kind = media_type or (expected.media_type if expected is not None else "")
        return Descriptor(media_type=kind, digest=digest, size=self.size)

    def discard(self) -> None:
        """Close, and delete what was not committed."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._path:
            files.unlink(self._path)
            self._path = ""


def adopt(store: Store, path: str, blob: Descriptor) -> None:
    """Give a file of verified and synced bytes its name; it is moved, not copied if possible."""
    target = blob_path(store, blob.digest)
    try:
        os.rename(path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with BlobWriter(store, blob) as writer, open(path, "rb", buffering=0) as source:
            while data := source.read(1 << 20):
                writer.write(data)
            writer.commit()
        files.unlink(path)
    files.sync_directory(store.blobs)


def put(store: Store, data: bytes, media_type: str, expected: str = "") -> Descriptor:
    """Store a small blob; ``expected`` is the digest it must have."""
    descriptor = None
    if expected:
        descriptor = Descriptor(media_type=media_type, digest=expected, size=len(data))
        if has_blob(store, expected):
            return _verified(data, descriptor)
    with BlobWriter(store, descriptor) as writer:
        writer.write(data)
        return writer.commit(media_type)


def _verified(data: bytes, descriptor: Descriptor) -> Descriptor:
    import hashlib

    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if digest != descriptor.digest:
        raise ImageError(f"blob {descriptor.digest}: its bytes have the digest {digest}")
    return descriptor
