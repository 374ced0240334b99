"""Every network mode against everything one does with a network: each cell asserted.

What is measured, and how, stands in ``support/matrix.py``.  Here stand the best that a cell
can be, and the cells where a mode falls short of it, each with its reason.  What podman does
in the same scenarios is recorded in ``network_matrix.podman.json``; ``--long`` measures it
anew, and ``--record`` writes the record.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from support import host, matrix
from support.matrix import MODES, Container
from support.podman import Podman
from support.podpy import BUSYBOX, Podpy
from support.world import World

RECORD = Path(__file__).with_name("network_matrix.podman.json")
BRIDGES = ("bridge", "own", "two bridges", "container")
LOOPBACK, LOOPBACK6 = "127.0.0.1", "::1"
CLOSED = ""

BEST: dict[str, dict[str, str]] = {
    "outbound": {
        # The world's servers see the host's address, and no other.
        "tcp": World.host,
        "udp": World.host,
        "tcp6": World.host6,
        "udp6": World.host6,
        "host": World.host,
        "bulk": "whole",
        "dns": World.server,
        "dns tcp": World.server,
        "name": f"{World.server6} {World.server}",
        "ping": "echo",
        "ping6": "echo",
        "peer": "answers",
        "mtu": "65520",
    },
    "published": {
        # Servers in the container see the client's own address.
        "any from the host": LOOPBACK,
        "any from the world": World.address,
        "any from the host, IPv6": LOOPBACK6,
        "any from the world, IPv6": World.address6,
        "loopback from the host": LOOPBACK,
        "loopback from the world": CLOSED,
        "address from the host": CLOSED,
        "address from the world": World.address,
        "udp from the host": LOOPBACK,
        "udp from the world": World.address,
        "range from the host": LOOPBACK,
        "range from the world": World.address,
        "random from the host": LOOPBACK,
        "random from the world": World.address,
        "exposed from the host": LOOPBACK,
        "exposed from the world": World.address,
        "loopback6 from the host": CLOSED,
        "loopback6 from the world": CLOSED,
        "loopback6 from the host, IPv6": LOOPBACK6,
        "loopback6 from the world, IPv6": CLOSED,
        "address6 from the host": CLOSED,
        "address6 from the world": CLOSED,
        "address6 from the host, IPv6": CLOSED,
        "address6 from the world, IPv6": World.address6,
    },
    "closed": {"of the host's loopback": ""},
}
DIRECT = {
    "direct from the host": LOOPBACK,
    "direct from the world": World.address,
    "direct from the host, IPv6": LOOPBACK6,
    "direct from the world, IPv6": World.address6,
}


class Limit(NamedTuple):
    """Cells of a group that are not the best in some modes: what they are, and why."""

    modes: tuple[str, ...]
    group: str
    cells: tuple[str, ...]
    value: str
    reason: str


def ending(text: str) -> tuple[str, ...]:
    """The cells of published ports that end so and are not closed to everybody."""
    return tuple(
        cell for cell, best in BEST["published"].items() if best and cell.endswith(text)
    )  # fmt: skip


def about(*forms: str) -> tuple[str, ...]:
    return tuple(cell for cell in BEST["published"] if cell.split()[0] in forms)


NAMELESS = ("none", "host", "slirp4netns", "pasta")
WITHOUT_IPV6 = ("two bridges",)  # made without --ipv6; the default network has it
LIMITS = (
    Limit(("none",), "outbound", tuple(BEST["outbound"]), "", "there is no network"),
    Limit(NAMELESS, "outbound", ("peer",), "", "no network with names is shared"),
    Limit(("container",), "outbound", ("peer",), "", "there is none in this scenario"),
    Limit(("host",), "outbound", ("mtu",), "1500", "that of the host's own cable"),
    Limit(
        ("slirp4netns", *BRIDGES), "outbound", ("ping6",), "",
        "libslirp answers ICMPv6 for itself and passes none on before 4.8",
    ),
    Limit(
        WITHOUT_IPV6, "outbound", ("tcp6", "udp6", "ping6"), "",
        "a network that is made has IPv6 where --ipv6 asked for it",
    ),
    Limit(("two bridges",), "outbound", ("mtu",), "65520 65520", "one for each network"),
    Limit(("pasta",), "outbound", ("host",), "", "the host's address is the container's own"),
    Limit(
        ("slirp4netns", *BRIDGES), "published", ending("from the host"), "masked",
        "the loopback's addresses mean something else in a container",
    ),
    Limit(
        BRIDGES, "published", ending("from the host, IPv6"), "masked",
        "the loopback's addresses mean something else in a container",
    ),
    Limit(
        WITHOUT_IPV6, "published", ending("from the world, IPv6"), "masked",
        "the container has no IPv6: its client comes by a relay",
    ),
    Limit(
        ("slirp4netns",), "published", ("any from the host, IPv6", "any from the world, IPv6"),
        CLOSED,
        "slirp4netns publishes on IPv4 only",
    ),
    Limit(
        ("slirp4netns",), "published", about("loopback6", "address6"), "refused",
        "slirp4netns publishes on IPv4 only, and podpy says so",
    ),
    Limit(
        ("pasta",), "published", ("udp from the host",), "masked",
        "pasta does not answer the loopback's datagrams: a relay does",
    ),
    Limit(
        ("none",), "published", tuple(BEST["published"]), CLOSED,
        "there is no network to publish on",
    ),
    Limit(
        ("host",), "closed", ("of the host's loopback",),
        "127.0.0.1 ::1 @abstract host.containers.internal host.docker.internal",
        "it is the host's own network",
    ),
)  # fmt: skip

#: Cells that say nothing of podpy: passt of Debian 12 (2023-03) on Linux 6.18 loses what a
#: container sends into a connection with a remote host, with and without podpy; that of
#: Debian 13 (2025-05) still does so now and then when much is sent both ways at once.
NEW_PASTA = ("bulk",)
OLD_PASTA = (*NEW_PASTA, *ending("from the world"), *ending("from the world, IPv6"))


def expected(mode: str, group: str) -> dict[str, str]:
    if (mode, group) == ("host", "published"):
        return DIRECT
    cells = dict(BEST[group])
    for limit in LIMITS:
        if mode in limit.modes and limit.group == group:
            assert set(limit.cells) <= set(cells), limit.reason
            cells.update(dict.fromkeys(limit.cells, limit.value))
    return cells


def measure(container: Container, world: World, group: str) -> dict[str, str]:
    """The cells of a group; the refusal of a published form stands for each of its cells."""
    cells = matrix.GROUPS[group](container, world)
    if group != "published":
        return cells
    told: dict[str, str] = {}
    for cell, seen in cells.items():
        forms = about(cell) if seen in ("refused", "not published") else (cell,)
        told.update(dict.fromkeys(forms, "" if seen == "not published" else seen))
    return told


def said_of_itself(program: str) -> str:
    argv = [host.program(program), "--version"]
    return subprocess.run(argv, capture_output=True, text=True).stdout


def has_old_pasta() -> bool:
    """Whether pasta is from before its releases had dates, as in Debian 12."""
    return "unknown version" in said_of_itself("pasta")


def has_old_libslirp() -> bool:
    version = re.search(r"libslirp: (\d+)\.(\d+)", said_of_itself("slirp4netns"))
    return version is not None and (int(version[1]), int(version[2])) < (4, 8)


def compare(found: dict[str, str], wanted: dict[str, str], without: Iterable[str] = ()) -> None:
    differing = {
        cell: f"{found.get(cell)!r}, expected {value!r}"
        for cell, value in wanted.items()
        if cell not in without and found.get(cell) != value
    }
    assert not differing, json.dumps(differing, indent=1)
    assert set(found) == set(wanted)


@pytest.mark.parametrize("group", matrix.GROUPS)
@pytest.mark.parametrize("mode", MODES)
def test_podpy(podpy: Podpy, busybox: str, world: World, mode: str, group: str) -> None:
    host.require("slirp4netns", "pasta", "/dev/net/tun")
    found = measure(Container(podpy, busybox, mode), world, group)
    wanted = expected(mode, group)
    unsure: tuple[str, ...] = ()
    if mode == "pasta" and has_old_pasta():
        unsure = OLD_PASTA
    elif mode == "pasta":  # later ones show a client on the loopback as the host's own address
        own = {LOOPBACK: World.host, LOOPBACK6: World.host6}
        wanted = {cell: own.get(value, value) for cell, value in wanted.items()}
        unsure = NEW_PASTA
    elif wanted.get("tcp6") and not has_old_libslirp():
        wanted["ping6"] = "echo"
    compare(found, wanted, [cell for cell in unsure if cell in wanted])


@pytest.mark.parametrize("mtu", ["1280", "1500", "9000"])
@pytest.mark.parametrize("mode", ["slirp4netns", "bridge"])
def test_nothing_stalls_at_another_mtu(
    podpy: Podpy, busybox: str, world: World, mode: str, mtu: str
) -> None:
    """Two megabytes each way at once: one lost kind of packet and they would not arrive."""
    network = f"slirp4netns:mtu={mtu}"
    if mode == "bridge":
        network = podpy("network", "create", "--opt", f"mtu={mtu}", "narrow").text
    found = matrix.outbound(Container(podpy, busybox, network), world)
    assert (found["mtu"], found["bulk"], found["tcp"]) == (mtu, "whole", world.host)


# --- the peer ----------------------------------------------------------------


def recorded() -> dict[str, dict[str, dict[str, str]]]:
    record: dict[str, dict[str, dict[str, str]]] = json.loads(RECORD.read_text())["cells"]
    return record


@pytest.mark.long
@pytest.mark.parametrize("group", matrix.GROUPS)
@pytest.mark.parametrize("mode", MODES)
def test_podman(
    podman: Podman, world: World, request: pytest.FixtureRequest, mode: str, group: str
) -> None:
    """The same scenarios, on the peer: they measure something, and the record is true."""
    host.require("netavark", "aardvark-dns")
    version = podman("--version").text
    found = measure(Container(podman, BUSYBOX, mode), world, group)
    if request.config.getoption("--record"):
        directory = Path(os.environ["PODPY_TEST_CACHE"]) / "podman-matrix"
        directory.mkdir(exist_ok=True)
        (directory / f"{mode} {group}").write_text(json.dumps([version, found]))
        pytest.skip(f"recorded in {directory}: put together by support/matrix.py")
    if json.loads(RECORD.read_text())["version"] != version:
        pytest.skip(f"the record is of another version than {version}")
    compare(found, recorded()[mode][group])


def test_podpy_is_nowhere_behind_podman() -> None:
    """Where podman's record has an answer, podpy's expectation has one, and no mask."""
    behind = [
        (mode, cell, theirs)
        for mode, groups in recorded().items()
        for group in ("outbound", "published")
        for cell, theirs in groups[group].items()
        if theirs not in ("", matrix.REFUSED)
        and expected(mode, group)[cell] in ("", matrix.REFUSED)
    ]
    assert behind == [
        *(("slirp4netns", cell, "masked") for cell in SLIRP_IPV6),
    ]


#: podman's slirp4netns mode publishes by a proxy of its own (rootlessport), which has IPv6 and
#: masks every client.  podpy's keeps the clients' addresses; for IPv6 there are pasta and bridge.
SLIRP_IPV6 = (
    "any from the host, IPv6",
    "any from the world, IPv6",
    "loopback6 from the host, IPv6",
    "address6 from the world, IPv6",
)
