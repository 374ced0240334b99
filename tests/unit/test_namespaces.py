"""Modes of namespaces, and id maps that the kernel will take."""

from __future__ import annotations

import pytest

from podpy.engine import namespaces
from podpy.engine.options import ContainerOptions
from podpy.errors import HostError, UsageError
from podpy.model import IdMapping, UserNamespace

OWN = (1000, 1000)
RANGES = ((100000, 65536),)


def user(joined: str = "", configured: str = "", **options: object) -> UserNamespace:
    return namespaces.user(
        ContainerOptions(image="i", **options),  # type: ignore[arg-type]
        configured=configured,
        joined=joined,
        lookup=lambda name: f"id-of-{name}",
        ids=OWN,
        ranges=lambda name: {"": (RANGES, RANGES), "half": (((100000, 100),),) * 2}.get(
            name, ((), ())
        ),
        taken=lambda: (((100000, 1024),), ((100000, 2048),)),
    )


def triples(extents: tuple[IdMapping, ...]) -> list[tuple[int, int, int]]:
    return [(m.inside, m.outside, m.count) for m in extents]


def test_the_default_is_no_map_of_its_own() -> None:
    assert user() == UserNamespace(mode="host")
    assert user(userns="host") == UserNamespace(mode="host")


def test_keep_id() -> None:
    made = user(userns="keep-id")
    assert triples(made.uid_map) == [(0, 100000, 1000), (1000, 1000, 1), (1001, 101000, 64536)]


def test_keep_id_of_another_number() -> None:
    made = user(userns="keep-id:uid=5,gid=0")
    assert triples(made.uid_map) == [(0, 100000, 5), (5, 1000, 1), (6, 100005, 65531)]
    assert triples(made.gid_map) == [(0, 1000, 1), (1, 100000, 65536)]


def test_keep_id_over_ranges_in_pieces() -> None:
    found = namespaces.keep_id_map(7, ((100, 3), (200, 10)), 5)
    assert triples(found) == [(0, 100, 3), (3, 200, 2), (5, 7, 1), (6, 202, 8)]


def test_keep_id_of_a_number_beyond_the_ranges() -> None:
    assert triples(namespaces.keep_id_map(7, ((100, 3),), 50)) == [(0, 100, 3), (50, 7, 1)]


def test_nomap_leaves_the_caller_out() -> None:
    assert triples(user(userns="nomap").uid_map) == [(0, 100000, 65536)]


def test_auto_takes_what_no_other_has() -> None:
    made = user(userns="auto:size=10")
    assert triples(made.uid_map) == [(0, 101024, 10)]
    assert triples(made.gid_map) == [(0, 102048, 10)]


def test_auto_without_enough_ids() -> None:
    with pytest.raises(HostError, match="not enough unused"):
        user(userns="auto:size=65536")


def test_extents_count_the_caller_as_zero() -> None:
    made = user(uidmap=("0:1:10", "10:0"))
    assert triples(made.uid_map) == [(0, 100000, 10), (10, 1000, 1)]
    assert made.gid_map == made.uid_map, "one option stands for both"


def test_extents_by_the_number_of_the_host() -> None:
    assert triples(user(uidmap=("0:@1000:1", "1:@100005:2")).uid_map) == [
        (0, 1000, 1),
        (1, 100005, 2),
    ]


def test_an_extent_over_a_seam_is_split() -> None:
    assert triples(user(uidmap=("0:0:3",)).uid_map) == [(0, 1000, 1), (1, 100000, 2)]


@pytest.mark.parametrize(
    "extents",
    [
        ("0:0:70000",),
        ("0:@5:1",),
        ("0",),
        ("0:0:0",),
        ("x:0:1",),
        ("0:1:2", "1:5:1"),
        ("0:1", "5:1"),
    ],
)
def test_maps_that_the_kernel_would_refuse(extents: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--uidmap"):
        user(uidmap=extents)


def test_a_named_range() -> None:
    assert triples(user(subuidname="half").uid_map) == [(0, 100000, 100)]
    with pytest.raises(UsageError, match="no entry 'nobody'"):
        user(subuidname="nobody")


def test_what_excludes_what() -> None:
    with pytest.raises(UsageError, match="excludes"):
        user(userns="keep-id", uidmap=("0:0:1",))
    with pytest.raises(UsageError, match="invalid mode"):
        user(userns="magic")
    with pytest.raises(UsageError, match="no option"):
        user(userns="keep-id:size=5")


def test_whoever_joins_a_namespace_joins_its_user_namespace() -> None:
    assert user(joined="abc") == UserNamespace(mode="container", target="abc")
    with pytest.raises(UsageError, match="lives in the"):
        user(joined="abc", userns="keep-id")
    with pytest.raises(UsageError, match="lives in the"):
        user(joined="abc", uidmap=("0:0:1",))


@pytest.mark.parametrize(
    ("ranges", "taken", "left"),
    [
        (((0, 10),), (), ((0, 10),)),
        (((0, 10),), ((3, 2),), ((0, 3), (5, 5))),
        (((0, 10),), ((0, 10),), ()),
        (((0, 10), (20, 5)), ((8, 14),), ((0, 8), (22, 3))),
    ],
)
def test_free(ranges: object, taken: object, left: object) -> None:
    assert namespaces.free(ranges, taken) == left  # type: ignore[arg-type]


# --- the other kinds -------------------------------------------------------------


def lookup(name: str) -> str:
    return f"id-of-{name}"


def test_simple_modes() -> None:
    assert namespaces.simple("", "--pid", ("host",), lookup) == "private"
    assert namespaces.simple("host", "--pid", ("host",), lookup) == "host"
    assert namespaces.simple("container:x", "--pid", ("host",), lookup) == "container:id-of-x"
    with pytest.raises(UsageError, match="--pid"):
        namespaces.simple("other", "--pid", ("host",), lookup)
    with pytest.raises(UsageError, match="--cgroupns"):
        namespaces.simple("container:x", "--cgroupns", ("host",), None)
