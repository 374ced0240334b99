"""A container's hosts file and resolv.conf."""

from __future__ import annotations

import pytest

from podpy.errors import UsageError
from podpy.model import ContainerRecord, LogConfig, UserNamespace
from podpy.net import resolv
from podpy.netmodel import Endpoint, Network, NetworkMode

HOST = """\
# made by hand
search example.org corp.example
nameserver 10.1.1.1
nameserver 10.1.1.2 ; the other one
options edns0 timeout:2
"""


def entries(text: str) -> dict[str, str]:
    """Name → address."""
    found = {}
    for line in text.splitlines():
        address, *names = line.split()
        found.update(dict.fromkeys(names, address))
    return found


def test_a_clean_file_with_the_containers_names() -> None:
    text = resolv.hosts_file(names=("web", "web", "abc"), addresses=("10.0.2.100",))
    found = entries(text)
    assert found["localhost"] == "::1"  # the last line with a name wins here, both are there
    assert text.startswith("127.0.0.1\tlocalhost\n")
    assert text.endswith("10.0.2.100\tweb abc\n")


def test_hosts_are_added() -> None:
    extra = ("db:10.5.5.5", "v6:fd00::7", "b6:[fd00::8]", "x;y=10.5.5.6")
    found = entries(resolv.hosts_file(names=("c",), extra=extra))
    assert found["db"] == "10.5.5.5"
    assert (found["v6"], found["b6"]) == ("fd00::7", "fd00::8")
    assert (found["x"], found["y"]) == ("10.5.5.6", "10.5.5.6")


def test_host_gateway_leads_to_the_host() -> None:
    text = resolv.hosts_file(names=("c",), extra=("h:host-gateway",), gateway="10.0.2.2")
    assert entries(text)["h"] == "10.0.2.2"


def test_host_gateway_without_a_way_to_the_host_is_refused() -> None:
    with pytest.raises(UsageError, match="h:host-gateway"):
        resolv.hosts_file(names=("c",), extra=("h:host-gateway",))


def test_the_hosts_own_names_need_access() -> None:
    closed = entries(resolv.hosts_file(names=("c",), gateway="10.0.2.2"))
    opened = entries(resolv.hosts_file(names=("c",), gateway="10.0.2.2", host_access=True))
    for name in resolv.HOST_NAMES:
        assert name not in closed
        assert opened[name] == "10.0.2.2"


def test_a_base_without_a_last_newline() -> None:
    text = resolv.hosts_file(names=("c",), base="127.0.0.1 localhost")
    assert text == "127.0.0.1 localhost\n127.0.0.1\tc\n"


@pytest.mark.parametrize(
    "value",
    ["", "db", "db:", ":10.0.0.1", "db:host", "db:10.0.0", "db:1.2.3.4/8", "a b:1.2.3.4",
     "a#b:1.2.3.4", "a\n1.2.3.4 b:1.2.3.4", "a;;b:1.2.3.4", "db:fe80::1%eth0"],
)  # fmt: skip
def test_bad_hosts_are_refused(value: str) -> None:
    with pytest.raises(UsageError, match="add-host"):
        resolv.split_host(value)


def test_the_forwarder_takes_the_first_resolvers_place() -> None:
    assert resolv.resolv_conf(HOST, forwarder="10.0.2.3") == (
        "search example.org corp.example\n"
        "nameserver 10.0.2.3\n"
        "nameserver 10.1.1.2\n"
        "options edns0 timeout:2\n"
    )


def test_without_a_forwarder_the_hosts_resolvers_stay() -> None:
    assert "nameserver 10.1.1.1\nnameserver 10.1.1.2\n" in resolv.resolv_conf(HOST)


@pytest.mark.parametrize("local", ["127.0.0.53", "127.0.0.1", "::1", "fe80::1%eth0"])
def test_resolvers_that_a_container_cannot_reach_are_left_out(local: str) -> None:
    host = f"nameserver {local}\nnameserver 10.1.1.2\n"
    assert local not in resolv.resolv_conf(host)
    assert local not in resolv.resolv_conf(host, forwarder="10.0.2.3")
    assert local in resolv.resolv_conf(host, host_network=True)


def test_the_stub_of_systemd_is_replaced_by_what_is_behind_it() -> None:
    real = "nameserver 192.168.1.1\n"
    assert resolv.resolv_conf("nameserver 127.0.0.53\n", fallback=real) == real
    assert resolv.resolv_conf("nameserver 10.1.1.1\n", fallback=real) == "nameserver 10.1.1.1\n"
    assert resolv.resolv_conf("nameserver 127.0.0.53\n", forwarder="10.0.2.3", fallback=real) == (
        "nameserver 10.0.2.3\n"
    )


def test_ipv6_resolvers_are_not_behind_the_forwarder() -> None:
    host = "nameserver fd00::53\n"
    assert resolv.resolv_conf(host, forwarder="10.0.2.3") == host
    both = resolv.resolv_conf(host + "nameserver 10.1.1.1\n", forwarder="10.0.2.3")
    assert both == "nameserver 10.0.2.3\nnameserver fd00::53\n"


def test_no_resolver_is_ever_invented() -> None:
    assert resolv.resolv_conf("") == ""
    assert resolv.resolv_conf("nameserver 127.0.0.1\n") == ""


def test_what_is_given_replaces_the_hosts() -> None:
    text = resolv.resolv_conf(
        HOST, servers=("9.9.9.1", "fd00::1"), search=("a.b",), options=("ndots:5",),
        forwarder="10.0.2.3",
    )  # fmt: skip
    assert text == "search a.b\nnameserver 9.9.9.1\nnameserver fd00::1\noptions ndots:5\n"


def test_a_dot_means_no_search_domains() -> None:
    assert "search" not in resolv.resolv_conf(HOST, search=(".",))


def test_a_resolver_must_be_an_address() -> None:
    with pytest.raises(UsageError, match=r"dns\.example"):
        resolv.resolv_conf(HOST, servers=("dns.example",))


def test_dns_none_stands_alone() -> None:
    assert not resolv.own_files_wanted(("none",))
    assert resolv.own_files_wanted(())
    with pytest.raises(UsageError, match="none"):
        resolv.own_files_wanted(("none", "10.1.1.1"))


def test_the_last_search_line_counts() -> None:
    text = "domain a.example\nsearch b.example c.example\nbroken\n"
    assert resolv.parse_resolv_conf(text) == ((), ("b.example", "c.example"), ())


# --- bridge networks -------------------------------------------------------------


HERE = resolv.Host(resolv_conf=HOST, address="192.0.2.7")
FRONT = Endpoint(network="front", address="10.1.0.5", gateway="10.1.0.1")
BACK = Endpoint(
    network="back", address="10.2.0.5", gateway="10.2.0.1", address6="fd00::5", gateway6="fd00::1"
)


def network(name: str, **values: object) -> Network:
    return Network(name=name, id=name, created=1.0, **values)  # type: ignore[arg-type]


def files_of(*endpoints: Endpoint, networks: list[Network], **values: object) -> dict[str, str]:
    made = ContainerRecord(
        id="ab" * 32, name="web", created=1.0, argv=("x",), user_namespace=UserNamespace(),
        log=LogConfig(), network=NetworkMode(kind="bridge"), **values,  # type: ignore[arg-type]
    )  # fmt: skip
    links = [("10.1.0.9", ("store", "db"))]
    return resolv.network_files(made, endpoints, "webhost", links, networks=networks, host=HERE)


def test_files_of_a_container_on_two_networks() -> None:
    made = files_of(
        FRONT, BACK, networks=[network("front"), network("back")],
        hosts=("x:10.0.0.1", "gate:host-gateway"),
    )  # fmt: skip
    assert made["hosts"] == resolv.CLEAN_HOSTS + (
        "10.0.0.1\tx\n192.0.2.7\tgate\n10.1.0.9\tstore db\n"
        "10.1.0.5\twebhost web\n10.2.0.5\twebhost web\nfd00::5\twebhost web\n"
    )
    assert made["resolv.conf"] == (
        "search example.org corp.example\nnameserver 10.1.0.1\noptions edns0 timeout:2 ndots:0\n"
    )


@pytest.mark.parametrize(
    ("host", "own", "options"),
    [
        ("options ndots:5 rotate", (), "rotate ndots:0"),
        ("options rotate", ("ndots:2",), "ndots:2"),
        ("options rotate", ("timeout:1",), "timeout:1 ndots:0"),
    ],
)
def test_names_of_containers_are_asked_for_as_they_are(
    host: str, own: tuple[str, ...], options: str
) -> None:
    """And not in a search domain first, whose servers would be told."""
    container = ContainerRecord(
        id="ab" * 32, name="web", created=1.0, argv=("x",), user_namespace=UserNamespace(),
        log=LogConfig(), network=NetworkMode(kind="bridge"), dns_options=own,
    )  # fmt: skip
    made = resolv.network_files(
        container, [FRONT], "x", networks=[network("front")], host=resolv.Host(resolv_conf=host)
    )
    assert made["resolv.conf"] == f"nameserver 10.1.0.1\noptions {options}\n"


@pytest.mark.parametrize(
    ("endpoints", "networks", "dns", "servers"),
    [
        # the first network that has names answers, whatever --dns says: it asks those
        ((FRONT, BACK), [network("front", dns=False), network("back")], (), ["10.2.0.1"]),
        ((FRONT,), [network("front")], ("10.9.9.9",), ["10.1.0.1"]),
        ((FRONT,), [network("front", dns=False)], ("10.9.9.9",), ["10.9.9.9"]),
        ((FRONT,), [network("front", dns=False)], (), ["10.1.1.1", "10.1.1.2"]),
        ((FRONT,), [network("front", dns=False, dns_servers=("10.8.8.8",))], (), ["10.8.8.8"]),
        # IPv6 alone
        (
            (Endpoint(network="six", address6="fd00::5", gateway6="fd00::1"),),
            [network("six")], (), ["fd00::1"],
        ),
    ],
)  # fmt: skip
def test_who_is_asked_for_names(
    endpoints: tuple[Endpoint, ...], networks: list[Network], dns: tuple[str, ...],
    servers: list[str],
) -> None:  # fmt: skip
    made = files_of(*endpoints, networks=networks, dns=dns)
    found, _, _ = resolv.parse_resolv_conf(made["resolv.conf"])
    assert list(found) == servers


def test_files_that_are_not_wanted_are_not_made() -> None:
    assert set(files_of(FRONT, networks=[network("front")], dns=("none",))) == {"hosts"}
    assert set(files_of(FRONT, networks=[network("front")], no_hosts=True)) == {"resolv.conf"}


def test_an_internal_network_does_not_reach_the_host() -> None:
    with pytest.raises(UsageError, match="does not reach the host"):
        files_of(FRONT, networks=[network("front", internal=True)], hosts=("x:host-gateway",))


def test_the_host_has_no_name_where_its_loopback_is_closed() -> None:
    assert "internal" not in files_of(FRONT, networks=[network("front")])["hosts"]


def test_a_container_that_left_its_networks_has_files_all_the_same() -> None:
    made = files_of(networks=[])
    assert "127.0.0.1\twebhost web\n" in made["hosts"]
