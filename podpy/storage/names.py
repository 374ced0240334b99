"""Names: one small file per tag, from which the layout's ``index.json`` is derived.

``names/<reference, percent-encoded>`` says which manifest a reference stands
for and which image that is.  An image that has lost its last name keeps a file
``names/@<manifest hex>`` with an empty reference: it is dangling, and stays
until ``prune`` or ``rmi``.  The set of these files is what the store holds;
blobs and layers that none of them reaches are garbage.
"""

from __future__ import annotations

import errno
import os

from podpy import files, records
from podpy.errors import ImageError, StoreError
from podpy.model import Descriptor
from podpy.records import record
from podpy.storage.content import LAYOUT, hex_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from podpy.paths import Store

VERSION = 1
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:@")
REFERENCE_ANNOTATION = "org.opencontainers.image.ref.name"


class DamagedName(StoreError):
    """The file of a name that cannot be read; the name itself is known by the file's."""


@record
class Name:
    """A reference of the store and what it stands for.

    ``image`` is the image's id (64 digits).  ``index`` is the image index the
    manifest was chosen from, if there was one.  ``created`` is when the name
    was given.  ``made`` says that this store made the image: all images of its
    index are here, and its plain layers are compressed when it is pushed.
    """

    version: int = VERSION
    reference: str
    manifest: Descriptor
    index: Descriptor | None = None
    image: str
    created: float = 0.0
    made: bool = False
    _nested = {"manifest": Descriptor, "index": Descriptor}

    @property
    def is_dangling(self) -> bool:
        return not self.reference


def quote(reference: str) -> str:
    """A reference as a file name: all but the plain characters percent-encoded."""
    if _PLAIN.issuperset(reference):
        return reference
    return "".join(
        c if c in _PLAIN else "".join(f"%{byte:02X}" for byte in c.encode()) for c in reference
    )


def _path(store: Store, reference: str, manifest: str) -> str:
    """The file of a name; an empty reference is the dangling name of a manifest."""
    return f"{store.names}/{quote(reference) if reference else '@' + hex_of(manifest)}"


def read(store: Store, reference: str) -> Name | None:
    """The name of a full reference, or None."""
    return _read_file(f"{store.names}/{quote(reference)}")


def _read_file(path: str) -> Name | None:
    try:
        values = files.read_json(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return None
        raise
    except StoreError as error:
        raise _damaged(path, error.message) from None
    version = values.get("version") if isinstance(values, dict) else None
    if not isinstance(version, int):
        raise _damaged(path, f"{path}: not the record of a name")
    if version > VERSION:
        raise StoreError(
            f"{path}: format version {version!a} is newer than this podpy knows",
            hint="use the podpy that wrote it, or a newer one",
        )
    try:
        found = records.from_dict(Name, values)
        hex_of(found.manifest.digest)
        quote(found.reference + found.image)
    except (AttributeError, TypeError, ValueError, ImageError) as error:
        raise _damaged(path, f"{path}: {error}") from None
    return found


def _damaged(path: str, message: str) -> DamagedName:
    from urllib.parse import unquote

    return DamagedName(message, hint=f"`podpy rmi -f {unquote(os.path.basename(path))}` removes it")


def drop_damaged(store: Store, references: Iterable[str]) -> str:
    """Remove the first of these names whose file is damaged, and return it.

    ``@<manifest hex>`` means an image without a name.
    """
    for reference in references:
        path = f"{store.names}/{quote(reference)}"
        with files.lock(f"{store.locks}/index"):
            try:
                _read_file(path)
            except DamagedName:
                files.unlink(path)
                files.sync_directory(store.names)
                return reference
    return ""


def read_all(store: Store) -> Iterator[Name]:
    """Every name of the store, in the order of their files."""
    for entry in files.list_directory(store.names):
        found = _read_file(f"{store.names}/{entry}")
        if found is not None:
            yield found


def write(store: Store, name: Name) -> None:
    """Give a name, replacing what it stood for, and derive ``index.json`` anew.

    Nothing is written for a name that says the same already.  An image that
    loses its last name this way becomes dangling first, so that no crash in
    between loses sight of it.
    """
    path = _path(store, name.reference, name.manifest.digest)
    with files.lock(f"{store.locks}/index"):
        old = _before(path, name)
        if old is not None and records.replace(old, created=name.created) == name:
            return
        if name.reference and old is not None and old.image != name.image:
            _keep_as_dangling(store, old)
        files.write_json(path, records.to_dict(name), durable=True)
        if name.reference:
            files.unlink(_path(store, "", name.manifest.digest))
        _derive_index(store)


def _before(path: str, name: Name) -> Name | None:
    """What a name stood for; a dangling one that is damaged is simply written anew."""
    try:
        return _read_file(path)
    except DamagedName:
        if name.reference:
            raise
        return None


def remove(store: Store, name: Name, *, keep_image: bool = False) -> None:
    """Take a name away; ``keep_image`` leaves the image dangling if it was the last."""
    with files.lock(f"{store.locks}/index"):
        if keep_image and name.reference:
            _keep_as_dangling(store, name)
        files.unlink(_path(store, name.reference, name.manifest.digest))
        files.sync_directory(store.names)
        _derive_index(store)


def _keep_as_dangling(store: Store, name: Name) -> None:
    others = (n for n in read_all(store) if n.reference != name.reference)
    if not any(n.image == name.image for n in others):
        path = _path(store, "", name.manifest.digest)
        files.write_json(path, records.to_dict(records.replace(name, reference="")), durable=True)


def _derive_index(store: Store) -> None:
    """``oci-layout`` and ``index.json``: what other OCI tools read ``content/`` by."""
    entries = []
    for name in read_all(store):
        entry = {
            "mediaType": name.manifest.media_type,
            "digest": name.manifest.digest,
            "size": name.manifest.size,
        }
        if name.reference:
            entry["annotations"] = {REFERENCE_ANNOTATION: name.reference}
        entries.append(entry)
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    }
    if not os.path.exists(f"{store.content}/oci-layout"):
        files.write_atomic(f"{store.content}/oci-layout", LAYOUT)
    files.write_json(f"{store.content}/index.json", document)
