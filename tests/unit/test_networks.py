"""Networks without a container: records, the default one, options that are honoured or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podpy import files
from podpy.engine import (
    network_creation,
    network_inspect,
    network_listing,
    network_removal,
    networks,
)
from podpy.engine.context import Context
from podpy.engine.network_creation import CreateOptions
from podpy.errors import Ambiguous, Conflict, NotFound, StoreError, UsageError
from podpy.netmodel import Subnet
from podpy.paths import Store
from podpy.settings import Config, NetworkDefaults
from podpy.storage import events
from podpy.storage import networks as stored


@pytest.fixture
def ctx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr(networks, "host_routes", lambda: ["192.168.7.0/24"])
    store = Store(str(tmp_path / "store"), str(tmp_path / "run"))
    os.mkdir(tmp_path / "run", 0o700)
    store.prepare()
    return Context(store, Config())


def create(ctx: Context, name: str, **options: object) -> network_creation.Created:
    return network_creation.create(ctx, name, CreateOptions(**options))  # type: ignore[arg-type]


def configured(ctx: Context, **network: object) -> Context:
    return Context(ctx.store, Config(network=NetworkDefaults(**network)))  # type: ignore[arg-type]


# --- the default network -----------------------------------------------------


@pytest.mark.parametrize("name", ["bridge", "default", "podman", "17f29b07"])
def test_the_default_network_needs_no_file_and_has_several_names(ctx: Context, name: str) -> None:
    found = networks.find(ctx, name)
    assert (found.name, found.interface) == ("bridge", "podpy0")
    assert found.subnets[0] == Subnet(subnet="10.88.0.0/16", gateway="10.88.0.1")
    assert len(found.subnets) == 1 + found.ipv6
    assert found.ipv6 == os.path.exists("/proc/net/if_inet6")
    assert networks.settle(ctx, found) == found
    assert not os.path.exists(ctx.store.networks)


def test_a_network_called_podman_is_itself(ctx: Context) -> None:
    create(ctx, "podman")
    assert networks.find(ctx, "podman").name == "podman"
    assert networks.default(ctx).name == "bridge"


def test_containers_conf_names_the_default_network(ctx: Context) -> None:
    own = configured(ctx, default_network="lan", default_subnet="10.7.0.0/16")
    assert networks.find(own, "bridge").name == "lan"
    assert networks.default(own).subnets[0].gateway == "10.7.0.1"
    assert [row.network.name for row in network_listing.list(own)] == ["host", "lan", "none"]
    create(own, "lan", subnet=("10.8.0.0/16",))
    assert networks.default(own).subnets[0].subnet == "10.8.0.0/16"
    with pytest.raises(UsageError, match="default_network"):
        networks.default(configured(ctx, default_network="host"))
    with pytest.raises(UsageError, match="default_subnet"):
        networks.default(configured(ctx, default_subnet="10.0.0.0"))


def test_the_default_subnet_gives_way_to_a_route_and_stays(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "host_routes", lambda: ["10.88.4.0/24", "10.89.0.0/24"])
    settled = networks.settle(ctx, networks.default(ctx))
    assert settled.subnets[0].subnet == "10.89.1.0/24"
    monkeypatch.setattr(networks, "host_routes", list)
    assert networks.default(ctx) == settled


def test_where_everything_is_routed_a_small_part_is_taken(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "host_routes", lambda: ["10.0.0.0/8", "10.89.0.0/16"])
    create(ctx, "net")
    assert networks.find(ctx, "net").subnets[0].subnet == "10.90.0.0/24"


# --- making ------------------------------------------------------------------


def test_a_network_gets_a_free_subnet_and_interface(ctx: Context) -> None:
    made = [create(ctx, name) for name in ("a", "b", "")]
    assert [one.name for one in made] == ["a", "b", "podpy3"]
    found = [networks.find(ctx, one.id[:12]) for one in made]
    assert [network.interface for network in found] == ["podpy1", "podpy2", "podpy3"]
    assert [network.subnets[0].subnet for network in found] == [
        "10.89.0.0/24", "10.89.1.0/24", "10.89.2.0/24",
    ]  # fmt: skip


def test_all_that_can_be_said_of_a_network(ctx: Context) -> None:
    create(
        ctx, "full", subnet=("10.5.0.0/16",), gateway=("10.5.0.9",), ip_range=("10.5.7.0/24",),
        aux_address=("nas=10.5.0.7",), ipv6=True, internal=True, dns=("9.9.9.9,1.1.1.1",),
        route=("10.66.0.0/16,10.5.0.3",), interface_name="br-full", label=("a=b", "c"),
        opt=("mtu=1400", "isolate=false"),
    )  # fmt: skip
    found = networks.find(ctx, "full")
    assert (found.interface, found.mtu, found.isolate) == ("br-full", 1400, False)
    assert (found.internal, found.ipv6, found.dns) == (True, True, True)
    assert found.dns_servers == ("9.9.9.9", "1.1.1.1")
    assert found.routes == (("10.66.0.0/16", "10.5.0.3"),)
    assert found.labels == {"a": "b", "c": ""}
    shown = network_inspect.inspect(ctx, "full")
    assert shown["IPAM"]["Config"][0] == {
        "Subnet": "10.5.0.0/16", "Gateway": "10.5.0.9", "IPRange": "10.5.7.0/24",
        "AuxiliaryAddresses": {"nas": "10.5.0.7"},
    }  # fmt: skip
    assert shown["subnets"][0]["lease_range"] == {"start_ip": "10.5.7.0", "end_ip": "10.5.7.255"}
    assert shown["routes"] == [{"destination": "10.66.0.0/16", "gateway": "10.5.0.3"}]
    assert shown["EnableIPv6"] and shown["ipv6_enabled"]
    assert shown["subnets"][1]["subnet"].startswith("fd")


@pytest.mark.parametrize(
    ("options", "families"),
    [
        ({}, "4"),
        ({"ipv6": True}, "46"),
        ({"ipv4": False, "ipv6": True}, "6"),
        ({"subnet": ("fd00:7::/64",)}, "6"),
        ({"subnet": ("fd00:7::/64",), "ipv6": True}, "46"),
        ({"subnet": ("10.7.0.0/24", "fd00:7::/64")}, "46"),
    ],
)
def test_which_ip_versions_a_network_has(
    ctx: Context, options: dict[str, object], families: str
) -> None:
    create(ctx, "net", **options)
    found = networks.find(ctx, "net")
    assert "".join("6" if ":" in s.subnet else "4" for s in found.subnets) == families
    assert found.ipv6 == ("6" in families)


REFUSED = [
    ({"driver": "macvlan"}, "none of the host's interfaces"),
    ({"driver": "ipvlan"}, "none of the host's interfaces"),
    ({"driver": "overlay"}, "swarm"),
    ({"driver": "weave"}, "unsupported driver"),
    ({"ipam_driver": "dhcp"}, "DHCP"),
    ({"ipam_driver": "none"}, "unsupported ipam driver"),
    ({"ipam_opt": ("a=b",)}, "--ipam-opt"),
    ({"scope": "swarm"}, "--scope"),
    ({"config_only": True}, "--config-only"),
    ({"config_from": "x"}, "--config-from"),
    ({"ingress": True}, "--ingress"),
    ({"ipv4": False}, "must be enabled"),
    ({"ipv4": False, "ipv6": True, "subnet": ("10.5.0.0/24",)}, "--ipv4=false"),
    ({"dns": ("9.9.9.9",), "disable_dns": True}, "DNS is disabled"),
    ({"dns": ("nine",)}, "invalid IP address"),
    ({"route": ("10.6.0.0/16",)}, "invalid route"),
    ({"route": ("10.6.0.0/16,10.5.0.2,100",)}, "metric"),
    ({"route": ("10.6.0.0/16,10.5.0.2",)}, "in no subnet"),
    ({"route": ("10.6.0.0/16,fd00::1",)}, "another IP version"),
    ({"interface_name": "sixteen-letters-"}, "interface"),
    ({"opt": ("mtu=x",)}, "mtu"),
    ({"opt": ("mtu=1000",), "ipv6": True}, "too small"),
    ({"opt": ("vlan=7",)}, "none of the host's interfaces"),
    ({"opt": ("parent=eth0",)}, "none of the host's interfaces"),
    ({"opt": ("mode=unmanaged",)}, "nobody but podpy"),
    ({"opt": ("no_default_route=1",)}, "--internal"),
    ({"opt": ("com.docker.network.bridge.enable_icc=false",)}, "reach each other"),
    ({"opt": ("com.docker.network.bridge.enable_ip_masquerade=false",)}, "host's address"),
    ({"opt": ("com.docker.network.bridge.host_binding_ipv4=::1",)}, "no IPv4 address"),
    ({"opt": ("com.docker.network.host_ipv4=192.0.2.1",)}, "host's address"),
    ({"opt": ("com.docker.network.bridge.gateway_mode_ipv4=routed",)}, "host's address"),
    ({"opt": ("com.docker.network.container_iface_prefix=net",)}, "interface_name"),
    ({"opt": ("colour=red",)}, "unsupported bridge network option"),
    ({"opt": ("bare",)}, "not key=value"),
]


@pytest.mark.parametrize(("options", "says"), REFUSED)
def test_what_cannot_be_honoured_is_refused_with_the_reason(
    ctx: Context, options: dict[str, object], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        create(ctx, "net", **options)
    assert stored.names(ctx.store) == []


@pytest.mark.parametrize(
    "option",
    [
        "com.docker.network.bridge.enable_icc=true",
        "com.docker.network.bridge.enable_ip_masquerade=true",
        "com.docker.network.bridge.host_binding_ipv4=0.0.0.0",
        "com.docker.network.bridge.host_binding_ipv4=127.0.0.1",
        "com.docker.network.driver.mtu=1400",
        "com.docker.network.bridge.name=br7",
        "isolate=strict",
        "mode=managed",
    ],
)
def test_options_that_say_what_is_so(ctx: Context, option: str) -> None:
    create(ctx, "net", opt=(option,))
    key, _, value = option.partition("=")
    assert networks.find(ctx, "net").options == {key: value}


@pytest.mark.parametrize("name", ["host", "none", "bridge", "default", "container", "slirp4netns"])
def test_names_of_modes_are_no_names(ctx: Context, name: str) -> None:
    with pytest.raises(UsageError, match="conflicts with existing network modes"):
        create(ctx, name)


@pytest.mark.parametrize("name", ["-x", ".x", "a/b", "a b", "../x", "é", "x" * 201])
def test_names_that_are_none(ctx: Context, name: str) -> None:
    with pytest.raises(UsageError, match="names must match"):
        create(ctx, name)


def test_names_subnets_and_interfaces_are_taken_once(ctx: Context) -> None:
    create(ctx, "net", subnet=("10.5.0.0/16",), interface_name="br7")
    with pytest.raises(Conflict, match="network name net already used: network already exists"):
        create(ctx, "net")
    assert create(ctx, "net", ignore=True).id == networks.find(ctx, "net").id
    with pytest.raises(Conflict, match="already used by network net"):
        create(ctx, "two", subnet=("10.5.6.0/24",))
    with pytest.raises(Conflict, match="already used by network bridge"):
        create(ctx, "two", subnet=("10.88.6.0/24",))
    for interface in ("br7", "podpy0", "tap0", "v0011aabb.0"):
        with pytest.raises(Conflict, match="already in use"):
            create(ctx, "two", interface_name=interface)


def test_what_a_subnet_hides_is_told(ctx: Context) -> None:
    made = create(ctx, "net", subnet=("192.168.0.0/16",))
    assert "192.168.7.0/24" in made.warnings[0]
    assert create(ctx, "two", subnet=("192.169.0.0/16",)).warnings == ()


# --- finding and removing ----------------------------------------------------


def test_ids_are_shortened_while_they_are_unique(ctx: Context) -> None:
    first = create(ctx, "a").id
    assert networks.find(ctx, first[:20]).name == "a"
    for text in ("", "zzz", first + "0"):
        with pytest.raises(NotFound, match="network not found"):
            networks.find(ctx, text)
    with stored.lock(ctx.store):
        twin = networks.find(ctx, "a")
        files.write_json(
            f"{ctx.store.networks}/b.json",
            {"name": "b", "id": first[:30] + "f" * 34, "created": twin.created},
        )
    with pytest.raises(Ambiguous, match="a, b"):
        networks.find(ctx, first[:12])


def test_a_damaged_record_is_named_and_goes_by_force(ctx: Context) -> None:
    create(ctx, "whole")
    Path(ctx.store.networks, "bad.json").write_text("{")
    listed = {row.network.name: row.network.driver for row in network_listing.list(ctx)}
    assert list(listed) == ["bad", "bridge", "host", "none", "whole"]
    assert (listed["bad"], listed["whole"]) == ("damaged", "bridge")
    with pytest.raises(StoreError, match="network bad: its record is damaged"):
        networks.find(ctx, "bad")
    (refused,) = network_removal.remove(ctx, ("bad",))
    assert isinstance(refused.error, StoreError)
    (removed,) = network_removal.remove(ctx, ("bad",), force=True)
    assert removed.error is None and stored.names(ctx.store) == ["whole"]


def test_a_newer_record_is_not_guessed_at(ctx: Context) -> None:
    create(ctx, "net")
    path = f"{ctx.store.networks}/net.json"
    files.write_json(path, {**files.read_json(path), "version": 99})
    with pytest.raises(StoreError, match="newer podpy"):
        networks.find(ctx, "net")


def test_what_is_predefined_stays(ctx: Context) -> None:
    outcomes = network_removal.remove(ctx, ("bridge", "podman", "host", "none", "nope"), force=True)
    kinds = [type(outcome.error) for outcome in outcomes]
    assert kinds == [UsageError, UsageError, UsageError, UsageError, NotFound]


def test_prune_takes_by_label_and_age(ctx: Context) -> None:
    create(ctx, "keep", label=("env=prod",))
    create(ctx, "old", label=("env=test",))
    assert [o.name for o in network_removal.prune(ctx, filters=("label!=env=prod",))] == ["old"]
    assert network_removal.prune(ctx, filters=("until=1h",)) == ()
    assert [o.name for o in network_removal.prune(ctx)] == ["keep"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (("name=o",), ["host", "none", "one", "two"]),
        (("name=^o",), ["one"]),
        (("driver=bridge", "type=custom"), ["one", "two"]),
        (("type=builtin",), ["bridge", "host", "none"]),
        (("label=a=1",), ["one"]),
        (("label!=a",), ["bridge", "host", "none"]),
        (("dangling=true",), ["one", "two"]),
        (("scope=swarm",), []),
        (("id=17f29b",), ["bridge"]),
    ],
)
def test_filters(ctx: Context, filters: tuple[str, ...], names: list[str]) -> None:
    create(ctx, "one", label=("a=1",))
    create(ctx, "two", label=("a=2",))
    assert [row.network.name for row in network_listing.list(ctx, filters=filters)] == names


def test_updates_change_name_servers_and_are_written(ctx: Context) -> None:
    create(ctx, "net", dns=("9.9.9.9",))
    network_creation.update(ctx, "net", dns_add=("1.1.1.1,8.8.8.8",), dns_drop=("9.9.9.9",))
    assert networks.find(ctx, "net").dns_servers == ("1.1.1.1", "8.8.8.8")
    with pytest.raises(UsageError, match="is no name server"):
        network_creation.update(ctx, "net", dns_drop=("9.9.9.9",))
    with pytest.raises(UsageError, match="nothing to update"):
        network_creation.update(ctx, "net")
    network_creation.update(ctx, "bridge", dns_add=("1.1.1.1",))
    assert networks.default(ctx).dns_servers == ("1.1.1.1",) and networks.default(ctx).created
    create(ctx, "mute", disable_dns=True)
    with pytest.raises(UsageError, match="DNS is disabled"):
        network_creation.update(ctx, "mute", dns_add=("1.1.1.1",))


def test_what_happens_to_networks_is_noted(ctx: Context) -> None:
    made = create(ctx, "net")
    network_removal.remove(ctx, ("net",))
    noted = list(events.Reader(ctx.store, past=True).read())
    assert [(e.type, e.action, e.id) for e in noted] == [
        ("network", "create", made.id), ("network", "destroy", made.id),
    ]  # fmt: skip
    assert noted[0].attributes == {"name": "net", "type": "bridge"}
