"""Shadows: owners shifted from one id map to another, layers merged."""

from __future__ import annotations

import os
from pathlib import Path

from podpy.kernel.userns import IdMap
from podpy.model import IdMapping
from podpy.storage import shadow


def extents(*triples: tuple[int, int, int]) -> tuple[IdMapping, ...]:
    return tuple(IdMapping(inside=i, outside=o, count=c) for i, o, c in triples)


BASE = extents((0, 1000, 1), (1, 100000, 65536))
KEEP_ID = extents((0, 100000, 1000), (1000, 1000, 1), (1001, 101000, 64536))


def test_an_id_is_stored_as_the_base_map_calls_the_wanted_host_id() -> None:
    shifted = shadow.shift(BASE, KEEP_ID)
    assert shifted(0) == 1  # the container's root is host 100000, which the base map calls 1
    assert shifted(33) == 34
    assert shifted(1000) == 0  # the caller
    assert shifted(1001) == 1001


def test_an_id_outside_the_wanted_map_keeps_its_owner() -> None:
    assert shadow.shift(BASE, extents((0, 100000, 10)))(33) == 33


def test_file_capabilities_name_the_root_of_the_wanted_map() -> None:
    shifts = shadow.Shifts(IdMap(uid=BASE, gid=BASE), IdMap(uid=KEEP_ID, gid=KEEP_ID))
    second_revision = bytes.fromhex("0100000200040000" + "00" * 12)
    value = shifts.capability(second_revision)
    assert value[:4] == bytes.fromhex("01000003")
    assert value[4:20] == second_revision[4:20]
    assert int.from_bytes(value[20:], "little") == 1


def own_map() -> IdMap:
    return IdMap(
        uid=extents((0, 0, 1 << 31)), gid=extents((0, 0, 1 << 31))
    )  # nothing moves, so that the test needs no privilege


def test_layers_are_merged_and_files_point_at_their_data(tmp_path: Path) -> None:
    low, top, made = tmp_path / "low", tmp_path / "top", tmp_path / "made"
    for directory in (low / "a", low / "closed", top / "a", top / "closed", made):
        directory.mkdir(parents=True)
    (low / "a/kept").write_text("kept")
    (low / "a/replaced").write_text("old")
    (low / "closed/hidden").write_text("hidden")
    (top / "a/replaced").write_text("newer")
    (top / "a/link").symlink_to("kept")
    (top / "closed/seen").write_text("")
    os.setxattr(top / "closed", "user.overlay.opaque", b"y")
    os.link(low / "a/kept", low / "a/twin")

    shadow.make_shadow([str(top), str(low)], str(made), shadow.Shifts(own_map(), own_map()))

    names = sorted(str(p.relative_to(made)) for p in made.rglob("*"))
    assert names == ["a", "a/kept", "a/link", "a/replaced", "a/twin", "closed", "closed/seen"]
    assert (made / "a/replaced").stat().st_size == len("newer")
    assert os.getxattr(made / "a/replaced", "user.overlay.redirect") == b"/a/replaced"
    assert os.getxattr(made / "a/kept", "user.overlay.metacopy") == b""
    assert (made / "a/kept").stat().st_ino == (made / "a/twin").stat().st_ino
    assert os.readlink(made / "a/link") == "kept"
    assert "user.overlay.opaque" not in os.listxattr(made / "closed")


def test_files_that_the_wanted_root_may_not_read_are_copied(tmp_path: Path) -> None:
    layer, made = tmp_path / "layer", tmp_path / "made"
    for directory in (layer / "shut/open", layer / "open", made):
        directory.mkdir(parents=True)
    for name in ("open/public", "open/private", "shut/open/public"):
        (layer / name).write_text(name)
    (layer / "open/private").chmod(0o640)
    (layer / "shut").chmod(0o700)
    stranger = IdMap(uid=extents((0, 1 << 31, 1)), gid=extents((0, 1 << 31, 1)))

    shadow.make_shadow([str(layer)], str(made), shadow.Shifts(own_map(), stranger))

    assert os.getxattr(made / "open/public", "user.overlay.metacopy") == b""
    for name in ("open/private", "shut/open/public"):
        assert (made / name).read_text() == name
        assert os.listxattr(made / name) == []


def test_a_map_covers_another_when_it_lacks_none_of_its_host_ids() -> None:
    base = IdMap(uid=BASE, gid=BASE)
    keep_id = IdMap(uid=KEEP_ID, gid=KEEP_ID)
    without_caller = IdMap(uid=extents((0, 100000, 65536)), gid=KEEP_ID)
    assert keep_id.covers(base)
    assert not without_caller.covers(base)
    assert base.covers(without_caller)
