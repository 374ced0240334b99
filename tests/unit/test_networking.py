"""``--network`` and its companions: modes, networks, addresses, aliases, ports."""

from __future__ import annotations

from typing import Any

import pytest

from podpy.engine import networking, publishing
from podpy.engine.options import ContainerOptions
from podpy.engine.surroundings import Surroundings
from podpy.errors import NotFound, PodpyError, UsageError
from podpy.model import ContainerRecord, ImageConfig, LogConfig, UserNamespace
from podpy.net import ports
from podpy.netmodel import Attachment, Egress, Network, NetworkMode, Subnet
from podpy.records import replace
from podpy.settings import Config, ContainerDefaults, EngineDefaults, NetworkDefaults

SUBNETS = {
    "bridge": ("10.88.0.0/16",),
    "lan": ("10.1.0.0/24", "fd00:1::/64"),
    "lan2": ("10.2.0.0/24",),
}
MEANT = {"default": "bridge", "podman": "bridge", "1a2b": "lan"}


def find_network(name: str) -> Network:
    name = MEANT.get(name, name)
    if name not in SUBNETS:
        raise NotFound(f"unable to find network with name or ID {name}: network not found")
    subnets = tuple(
        Subnet(
            subnet=text,
            gateway=text.replace("0.0/16", "0.1").replace("0/24", "1").partition("/")[0],
        )
        for text in SUBNETS[name]
    )
    return Network(name=name, id=f"id of {name}", created=1.0, subnets=subnets)


def plain(name: str = "other", mode: NetworkMode | None = None) -> ContainerRecord:
    return ContainerRecord(
        id="cd" * 32, name=name, created=1.0, argv=("x",), hostname=f"{name}host",
        network=mode or NetworkMode(kind="bridge"), user_namespace=UserNamespace(), log=LogConfig(),
    )  # fmt: skip


def lookup(name: str) -> ContainerRecord:
    if name == "hosted":
        return plain("hosted", NetworkMode(kind="host"))
    if name != "other":
        raise NotFound(f"no such container: {name}")
    return plain()


AROUND = Surroundings(
    id="ab" * 32, now=1.0, cwd="/", env={}, hostname="thishost", ids=(1000, 1000), lookup=lookup,
    ranges=lambda _: ((), ()), taken=lambda: ((), ()),
    find_network=find_network, parse_port=ports.parse, new_volume=lambda: "v",
)  # fmt: skip


def choose(*networks: str, config: Config | None = None, **options: Any) -> Any:
    given = ContainerOptions(image="i", network=networks, **options)
    return networking.choose(given, config or Config(), AROUND)


def attached(*networks: str, **options: Any) -> tuple[Attachment, ...]:
    mode, found = choose(*networks, **options)
    assert mode == NetworkMode(kind="bridge")
    assert isinstance(found, tuple)
    return found


def details(
    *, config: Config | None = None, image: ImageConfig | None = None, **options: Any
) -> ContainerRecord:
    given = ContainerOptions(image="i", **options)
    mode, networks = networking.choose(given, config or Config(), AROUND)
    base = plain("made", mode)
    base = replace(base, networks=networks)
    return networking.details(base, given, image or ImageConfig(), config or Config(), AROUND)


# --- modes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("none", NetworkMode(kind="none")),
        ("host", NetworkMode(kind="host")),
        ("name=host", NetworkMode(kind="host")),
        ("container:other", NetworkMode(kind="container", target="cd" * 32)),
        ("ns:/run/netns/x", NetworkMode(kind="ns", target="/run/netns/x")),
        ("slirp4netns", NetworkMode(kind="slirp4netns")),
        (
            "slirp4netns:mtu=1500,cidr=10.1.0.0/24",
            NetworkMode(kind="slirp4netns", options=("mtu=1500", "cidr=10.1.0.0/24")),
        ),
        ("pasta:--map-gw", NetworkMode(kind="pasta", options=("--map-gw",))),
    ],
)
def test_modes(text: str, mode: NetworkMode) -> None:
    assert choose(text) == (mode, ())


@pytest.mark.parametrize("text", ["", "default", "private", "bridge", "podman", "name=bridge"])
def test_words_for_the_default_network(text: str) -> None:
    assert attached(text) == (Attachment(network="bridge"),)


def test_nothing_said_is_the_default_network() -> None:
    assert attached() == (Attachment(network="bridge"),)


def test_containers_conf_gives_the_default_and_options() -> None:
    engine = Config(engine=EngineDefaults(network_cmd_options=("mtu=1500",)))
    assert choose("slirp4netns:mtu=9000", config=engine)[0].options == ("mtu=1500", "mtu=9000")
    helper = Config(
        network=NetworkDefaults(default_rootless_network_cmd="pasta", pasta_options=("--map-gw",))
    )
    assert choose(config=helper)[0] == NetworkMode(kind="pasta", options=("--map-gw",))
    assert choose("bridge", config=helper)[0].kind == "bridge"
    for word, kind in (("none", "none"), ("slirp4netns", "slirp4netns"), ("bridge", "bridge")):
        named = Config(containers=ContainerDefaults(netns=word))
        assert choose(config=named)[0].kind == kind
        assert choose("private", config=named)[0].kind == kind
    lan = Config(containers=ContainerDefaults(netns="lan:ip=10.1.0.5"))
    assert choose(config=lan)[1] == (Attachment(network="lan", ip="10.1.0.5"),)


@pytest.mark.parametrize(
    "text",
    ["nowhere", "container:", "none:x", "slirp4netns:what=1", "slirp4netns:mtu", "ns:", "ns:rel",
     "container:nobody", "lan,", "name=", "alias=x", "name=lan,what"],
)  # fmt: skip
def test_wrong_networks(text: str) -> None:
    with pytest.raises(PodpyError):
        choose(text)


def test_an_unknown_network_is_said_as_podman_says_it() -> None:
    with pytest.raises(NotFound, match="network not found"):
        choose("nowhere")


@pytest.mark.parametrize(
    "texts", [("none", "host"), ("lan", "host"), ("slirp4netns", "lan"), ("name=host", "lan"),
              ("host,lan",), ("lan", "container:other")],
)  # fmt: skip
def test_a_mode_stands_alone(texts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="cannot set multiple networks without bridge"):
        choose(*texts)


# --- networks ----------------------------------------------------------------------


def test_several_networks_in_their_order() -> None:
    expected = (Attachment(network="lan2"), Attachment(network="lan"))
    assert attached("lan2", "lan") == expected
    assert attached("lan2,lan") == expected
    assert attached("lan2", "name=lan") == expected
    assert attached("lan2", "1a2b") == expected  # an id stands for the name


def test_options_of_podman() -> None:
    text = (
        "lan:ip=10.1.0.7,ip6=[fd00:1::0:7],mac=92-D0-C6-0A-29-33,alias=a,alias=b,interface_name=up0"
    )
    assert attached(text) == (
        Attachment(
            network="lan", ip="10.1.0.7", ip6="fd00:1::7", mac="92:d0:c6:0a:29:33",
            interface="up0", aliases=("a", "b"),
        ),
    )  # fmt: skip
    assert attached("bridge:ip=10.88.1.2") == (Attachment(network="bridge", ip="10.88.1.2"),)


def test_options_of_docker() -> None:
    text = (
        "name=lan,ip=10.1.0.7,ip6=fd00:1::7,mac-address=92:d0:c6:0a:29:33,alias=a,"
        "driver-opt=com.docker.network.endpoint.ifname=up0"
    )
    assert attached(text) == (
        Attachment(
            network="lan", ip="10.1.0.7", ip6="fd00:1::7", mac="92:d0:c6:0a:29:33",
            interface="up0", aliases=("a",),
        ),
    )  # fmt: skip
    assert attached('"name=lan","alias=a"') == (Attachment(network="lan", aliases=("a",)),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lan:what=1", "invalid option"),
        ("lan:ip=10.1.0.7,ip=10.1.0.8", "given twice"),
        ("lan:ip=10.1.0", "invalid IP address"),
        ("lan:ip=fd00:1::7", "no IPv4"),
        ("lan:ip6=10.1.0.7", "no IPv6"),
        ("lan:ip=10.9.0.7", "not in any subnet"),
        ("lan:ip=10.1.0.1", "gateway"),
        ("lan:ip=10.1.0.255", "broadcast"),
        ("lan2:ip6=fd00:1::7", "not in any subnet"),
        ("lan:mac=93:d0:c6:0a:29:33", "multicast"),
        ("lan:mac=92:d0:c6", "invalid MAC"),
        ("lan:alias=", "alias cannot be empty"),
        ("lan:alias=a b", "invalid alias"),
        ("lan:interface_name=", "invalid interface name"),
        ("lan:interface_name=lo", "invalid interface name"),
        ("lan:interface_name=sixteenletters16", "invalid interface name"),
        ("lan:mac-address=92:d0:c6:0a:29:33", "invalid option"),
        ("lan:mode=x", "cannot be honoured"),
        ("name=lan,mac=92:d0:c6:0a:29:33", "invalid option"),
        ("name=lan,link-local-ip=169.254.1.1", "cannot be honoured"),
        ("name=lan,gw-priority=1", "cannot be honoured"),
        ("name=lan,driver-opt=what=1", "cannot be honoured"),
        ("name=lan,what=1", "invalid option"),
    ],
)  # fmt: skip
def test_wrong_options_of_a_network(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        attached(text)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (("lan", "lan"), '"lan" is specified multiple times'),
        (("lan", "1a2b"), '"lan" is specified multiple times'),
        (("lan:interface_name=a", "lan2:interface_name=a"), "two interfaces would be named a"),
        (("lan", "lan2:interface_name=eth0"), "two interfaces would be named eth0"),
    ],
)
def test_networks_that_do_not_go_together(texts: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        attached(*texts)


def test_a_name_that_is_taken_is_passed_over() -> None:
    assert len(attached("lan:interface_name=eth0", "lan2", "bridge")) == 3
    assert len(attached("lan", "lan2", "bridge:interface_name=eth2")) == 3


# --- --ip and the like -------------------------------------------------------------


def test_addresses_are_for_the_first_network_and_aliases_for_all() -> None:
    found = attached(
        "lan", "lan2", ip="10.1.0.9", ip6="fd00:1::9", mac_address="92:d0:c6:0a:29:33",
        network_alias=("db", "store,cache"),
    )  # fmt: skip
    aliases = ("db", "store", "cache")
    assert found == (
        Attachment(
            network="lan", ip="10.1.0.9", ip6="fd00:1::9", mac="92:d0:c6:0a:29:33", aliases=aliases
        ),
        Attachment(network="lan2", aliases=aliases),
    )
    assert attached(ip="10.88.0.9") == (Attachment(network="bridge", ip="10.88.0.9"),)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("lan:ip=10.1.0.7", {"ip": "10.1.0.8"}),
        ("lan:ip6=fd00:1::7", {"ip6": "fd00:1::8"}),
        ("lan:mac=92:d0:c6:0a:29:33", {"mac_address": "92:d0:c6:0a:29:34"}),
        ("lan:alias=a", {"network_alias": ("b",)}),
    ],
)
def test_said_twice(text: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="cannot specify both"):
        attached(text, **options)


@pytest.mark.parametrize(
    "options",
    [{"ip": "10.1.0.8"}, {"ip6": "fd00::1"}, {"mac_address": "92:d0:c6:0a:29:34"},
     {"network_alias": ("b",)}, {"egress": ("none",)}],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["none", "host", "slirp4netns", "pasta"])
def test_only_networks_have_addresses_to_choose(mode: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="network mode is bridge"):
        choose(mode, **options)


def test_whoever_joins_a_network_has_none_to_choose() -> None:
    for options in ({"ip": "10.1.0.8"}, {"link": ("other",)}, {"egress": ("none",)}):
        with pytest.raises(UsageError, match="conflicting options"):
            details(network=("container:other",), **options)  # type: ignore[arg-type]


# --- ports, servers, links, policies -----------------------------------------------


def test_what_an_image_exposes_and_is_no_port_is_left_out() -> None:
    image = ImageConfig(exposed_ports=("80/tcp", "http", "", "90-80", "70000", "53/UDP", "9/what"))
    made = details(image=image, expose=("81-82",))
    assert made.exposed_ports == ("80/tcp", "53/udp", "81/tcp", "82/tcp")
    assert publishing.strange_ports(image.exposed_ports) == ("http", "", "90-80", "70000", "9/what")
    with pytest.raises(UsageError, match="--expose"):
        details(expose=("http",))


def test_ports_on_networks() -> None:
    made = details(publish=("8080:80",), publish_all=True, expose=("80", "81"))
    assert [(m.container_port, m.host_port) for m in made.ports] == [(80, 8080), (81, 0)]
    assert details(network=("none",), publish=("80",)).ports == ()


@pytest.mark.parametrize("servers", [("1.2.3",), ("dns.example",), ("none", "1.1.1.1")])
def test_servers_that_are_none(servers: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--dns"):
        details(dns=servers)


def test_a_network_says_where_ports_belong() -> None:
    def find(name: str) -> Network:
        return replace(find_network(name), publish_on="127.0.0.1" if name == "lan2" else "")

    around = replace(AROUND, find_network=find)

    def published(*networks: str) -> list[str]:
        given = ContainerOptions(image="i", network=networks, publish=("80", "10.0.0.1::81"))
        mode, wanted = networking.choose(given, Config(), around)
        base = replace(plain("made", mode), networks=wanted)
        made = networking.details(base, given, ImageConfig(), Config(), around)
        return [port.host_ip for port in made.ports]

    assert published("lan", "lan2") == ["127.0.0.1", "10.0.0.1"]
    assert published("lan") == ["", "10.0.0.1"]
    assert published("pasta") == ["", "10.0.0.1"]


def test_containers_conf_says_where_the_host_is() -> None:
    config = Config(containers=ContainerDefaults(host_containers_internal_ip="192.0.2.9"))
    options: dict[str, Any] = {"add_host": ("gate:host-gateway", "other=10.0.0.1")}
    named = "host.containers.internal;host.docker.internal:192.0.2.9"
    made = details(config=config, **options)
    assert made.hosts == ("gate:192.0.2.9", "other:10.0.0.1", named)
    assert details(config=config, network=("none",), **options).hosts == options["add_host"]
    assert details(**options).hosts == options["add_host"]
    wrong = Config(containers=ContainerDefaults(host_containers_internal_ip="nowhere"))
    with pytest.raises(UsageError, match="host_containers_internal_ip"):
        details(config=wrong)


def test_links_are_recorded_by_name_and_alias() -> None:
    assert details(link=("other:db", "/other")).links == ("other:db", "other:other")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a:b:c", "bad format"), ("", "bad format"), ("other:", "bad format"), (":db", "bad format"),
     ("other:a b", "invalid alias"), ("nobody", "could not get container"),
     ("hosted", "does not belong to the default network")],
)  # fmt: skip
def test_wrong_links(text: str, reason: str) -> None:
    with pytest.raises(PodpyError, match=reason):
        details(link=(text,))


def test_links_need_a_network() -> None:
    with pytest.raises(UsageError, match="host type networking can't be used with links"):
        choose("host", link=("other",))


def test_a_policy_is_recorded() -> None:
    assert details().egress is None
    assert details(egress=("none",)).egress == Egress()
    assert details(egress=("a.example,10.0.0.1:53",)).egress == Egress(
        rules=("a.example", "10.0.0.1:53")
    )
