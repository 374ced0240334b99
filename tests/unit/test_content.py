"""Blobs, names and staging: what is published is right, and what is not is gone."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from podpy.errors import ImageError, StoreError
from podpy.kernel import process
from podpy.model import Descriptor
from podpy.paths import Store
from podpy.storage import collect, content, names, staging
from podpy.storage.names import Name


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "store"))
    made.prepare()
    return made


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def described(data: bytes, **fields: int | str) -> Descriptor:
    values: dict[str, int | str] = {"digest": digest(data), "size": len(data), **fields}
    return Descriptor(media_type="x", digest=str(values["digest"]), size=int(values["size"]))


# --- blobs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["sha256:../../x", "sha256:" + "a" * 63, "sha256:" + "G" * 64, "", "a" * 64,
     "sha512:" + "a" * 128, "sha256:" + "a" * 64 + "/x", "SHA256:" + "a" * 64,
     "sha256:" + "é" * 64],
)  # fmt: skip
def test_only_an_exact_digest_becomes_a_path(store: Store, text: str) -> None:
    with pytest.raises(ImageError):
        content.blob_path(store, text)


def test_a_blob_appears_when_it_is_right(store: Store) -> None:
    with content.BlobWriter(store, described(b"hello")) as writer:
        writer.write(b"hel")
        writer.write(b"lo")
        assert not content.has_blob(store, digest(b"hello"))
        writer.commit()
    assert content.read_blob(store, digest(b"hello")) == b"hello"
    assert os.listdir(store.tmp) == []


@pytest.mark.parametrize(
    "expected",
    [described(b"hello", size=4), described(b"hello", size=6), described(b"jello"),
     described(b"hello", size=0)],
)  # fmt: skip
def test_a_blob_that_is_not_what_was_promised_leaves_nothing(
    store: Store, expected: Descriptor
) -> None:
    with pytest.raises(ImageError), content.BlobWriter(store, expected) as writer:
        writer.write(b"hello")
        writer.commit()
    assert os.listdir(store.blobs) == os.listdir(store.tmp) == []


def test_a_byte_too_many_stops_at_once(store: Store) -> None:
    with content.BlobWriter(store, described(b"hello")) as writer:
        writer.write(b"hello")
        with pytest.raises(ImageError, match="more than the 5 bytes"):
            writer.write(b"!")


def test_putting_what_is_there_still_checks_the_bytes(store: Store) -> None:
    content.put(store, b"hello", "x")
    with pytest.raises(ImageError):
        content.put(store, b"jello", "x", digest(b"hello"))


def test_a_missing_blob_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match=digest(b"none")):
        content.read_blob(store, digest(b"none"))


# --- names -----------------------------------------------------------------------


def named(reference: str, data: bytes, image: str = "1") -> Name:
    return Name(reference=reference, manifest=described(data), image=image * 64, created=1.0)


def index(store: Store) -> list[tuple[str, str]]:
    document = json.loads(Path(store.content, "index.json").read_text())
    return [
        (entry["digest"], entry.get("annotations", {}).get(names.REFERENCE_ANNOTATION, ""))
        for entry in document["manifests"]
    ]


def test_a_name_is_a_file_and_an_entry_of_the_index(store: Store) -> None:
    name = named("docker.io/library/a:1", b"m")
    names.write(store, name)
    assert names.read(store, "docker.io/library/a:1") == name
    assert index(store) == [(digest(b"m"), "docker.io/library/a:1")]
    assert json.loads(Path(store.content, "oci-layout").read_text()) == {
        "imageLayoutVersion": "1.0.0"
    }


def test_an_image_that_loses_its_last_name_is_dangling(store: Store) -> None:
    names.write(store, named("localhost/a:1", b"one", "1"))
    names.write(store, named("localhost/a:1", b"two", "2"))
    found = {(n.reference, n.image[0]) for n in names.read_all(store)}
    assert found == {("localhost/a:1", "2"), ("", "1")}
    names.write(store, named("localhost/b:1", b"one", "1"))
    assert "" not in {n.reference for n in names.read_all(store)}


def test_an_image_with_another_name_is_not_dangling(store: Store) -> None:
    for reference in ("localhost/a:1", "localhost/b:1"):
        names.write(store, named(reference, b"one", "1"))
    names.write(store, named("localhost/a:1", b"two", "2"))
    assert "" not in {n.reference for n in names.read_all(store)}


def test_removing_may_keep_the_image(store: Store) -> None:
    name = named("localhost/a:1", b"one")
    names.write(store, name)
    names.remove(store, name, keep_image=True)
    assert [n.reference for n in names.read_all(store)] == [""]
    names.remove(store, next(names.read_all(store)))
    assert index(store) == []


@pytest.mark.parametrize("reference", ["a/b:c", "x" * 400, "a%2Fb", "é/x:1", "[::1]:5000/a:1"])
def test_any_reference_can_be_asked_for(store: Store, reference: str) -> None:
    assert "/" not in names.quote(reference)
    assert names.read(store, reference) is None


def test_a_record_of_a_later_format_is_refused(store: Store) -> None:
    Path(store.names, "x").write_text('{"version":99}')
    with pytest.raises(StoreError, match="newer"):
        list(names.read_all(store))


# --- staging ---------------------------------------------------------------------


def test_what_the_living_stage_stays_and_what_the_dead_staged_goes(store: Store) -> None:
    mine = staging.create(store, "layer")
    me = process.identity()
    earlier = f"layer.{me.pid}.{me.start + 1}.{me.boot_id[:8]}.aa"
    other_boot = f"layer.{me.pid}.{me.start}.00000000.bb"
    for dead in (earlier, other_boot):
        Path(store.tmp, dead, "sub").mkdir(parents=True)
    Path(store.tmp, "not-ours").mkdir()
    assert len(staging.sweep(store)) == 2
    assert sorted(os.listdir(store.tmp)) == sorted([os.path.basename(mine), "not-ours"])


def test_discarding_what_is_gone_is_no_error(store: Store) -> None:
    staging.discard(store, f"{store.layers}/none")
    assert os.listdir(store.tmp) == []


# --- collecting ------------------------------------------------------------------


def layer(store: Store, digits: str) -> str:
    Path(store.layers, digits, "diff").mkdir(parents=True)
    return f"sha256:{digits}"


def test_only_what_nothing_reaches_is_collected(store: Store) -> None:
    used, pinned, free = (layer(store, c * 64) for c in "abc")
    blob = content.put(store, b"blob", "x")
    pins = collect.Pins(store)
    assert pins.hold(pinned, f"{store.layers}/{'b' * 64}")
    gone = collect.collect(store, lambda: {used})
    assert sorted(gone) == sorted([free, blob.digest])
    pins.close()
    assert collect.collect(store, lambda: {used}) == [pinned]


def test_a_layer_that_a_container_takes_meanwhile_comes_back(store: Store) -> None:
    taken = layer(store, "a" * 64)
    answers = iter([set[str](), {taken}])
    assert collect.collect(store, lambda: next(answers)) == []
    assert os.path.isdir(f"{store.layers}/{'a' * 64}/diff")
    assert os.listdir(store.tmp) == []


def test_pins_of_a_dead_process_hold_nothing(store: Store) -> None:
    free = layer(store, "a" * 64)
    me = process.identity()
    dead = Path(store.tmp, f"pins.{me.pid}.{me.start + 1}.{me.boot_id[:8]}.aa")
    dead.mkdir()
    (dead / ("a" * 64)).touch()
    assert collect.collect(store, set) == [free]
