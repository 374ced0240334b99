"""The network part of ``inspect``: docker's fields, and podpy's beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from podpy.engine import network_settings
from podpy.engine.context import Context
from podpy.model import Container, ContainerRecord, ContainerState, LogConfig, Status, UserNamespace
from podpy.netmodel import Attachment, Denial, Egress, Endpoint, NetworkMode, PortMapping
from podpy.paths import Store
from podpy.records import replace
from podpy.settings import Config

ENDPOINT = Endpoint(
    network="bridge", network_id="0f" * 32, interface="eth0", mac="02:42:0a:58:00:02",
    address="10.88.0.2", prefix=16, gateway="10.88.0.1",
    address6="fd00::2", prefix6=64, gateway6="fd00::1",
)  # fmt: skip


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(Store(str(tmp_path / "root"), str(tmp_path / "run")), Config())


def container(state: ContainerState, **values: Any) -> Container:
    given: dict[str, Any] = {
        "id": "f0" * 32, "name": "web", "created": 1.0, "argv": ("x",), "hostname": "webhost",
        "network": NetworkMode(kind="bridge"), "networks": (Attachment(network="bridge"),),
        "user_namespace": UserNamespace(), "log": LogConfig(), **values,
    }  # fmt: skip
    return Container(record=ContainerRecord(**given), state=state)


def running(*endpoints: Endpoint, **values: Any) -> ContainerState:
    return ContainerState(status=Status.RUNNING, networks=endpoints, **values)


def test_the_default_network_stands_at_the_top(ctx: Context) -> None:
    found = container(running(ENDPOINT), networks=(Attachment(network="bridge", aliases=("w",)),))
    shown = network_settings.settings(ctx, found)
    assert (shown["IPAddress"], shown["IPPrefixLen"]) == ("10.88.0.2", 16)
    network = shown["Networks"]["bridge"]
    assert network["GlobalIPv6Address"] == shown["GlobalIPv6Address"] == "fd00::2"
    assert network["EndpointID"] == "ff" * 32
    assert network["NetworkID"] == "0f" * 32
    assert network["Aliases"] == ["w"]
    assert network["DNSNames"] == ["web", "w", "f0f0f0f0f0f0", "webhost"]
    assert network["InterfaceName"] == "eth0"
    assert shown["Denied"] == []


def test_other_networks_do_not(ctx: Context) -> None:
    wanted = (Attachment(network="lan", ip="10.1.0.2"),)
    found = container(running(replace(ENDPOINT, network="lan")), networks=wanted)
    shown = network_settings.settings(ctx, found)
    assert shown["IPAddress"] == ""
    assert shown["Networks"]["lan"]["IPAddress"] == "10.88.0.2"
    assert shown["Networks"]["lan"]["IPAMConfig"] == {"IPv4Address": "10.1.0.2"}
    assert network_settings.mode(found.record) == "lan"


def test_a_container_that_does_not_run_has_no_address(ctx: Context) -> None:
    shown = network_settings.settings(ctx, container(ContainerState(status=Status.CREATED)))
    assert shown["Networks"]["bridge"]["IPAddress"] == ""
    assert len(shown["Networks"]["bridge"]["NetworkID"]) == 64  # the default one needs no record
    gone = container(ContainerState(status=Status.EXITED), networks=(Attachment(network="gone"),))
    assert network_settings.settings(ctx, gone)["Networks"]["gone"]["NetworkID"] == ""


@pytest.mark.parametrize(
    ("mode", "text", "networks"),
    [
        (NetworkMode(kind="none"), "none", []),
        (NetworkMode(kind="container", target="x"), "container:x", []),
        (NetworkMode(kind="ns", target="/run/netns/x"), "ns:/run/netns/x", []),
        (NetworkMode(kind="slirp4netns", options=("mtu=1", "a=b")), "slirp4netns:mtu=1,a=b",
         ["slirp4netns"]),
    ],
)  # fmt: skip
def test_modes(ctx: Context, mode: NetworkMode, text: str, networks: list[str]) -> None:
    found = container(running(address="10.0.2.100"), network=mode, networks=())
    assert network_settings.mode(found.record) == text
    assert list(network_settings.settings(ctx, found)["Networks"]) == networks


def test_ports_say_whose_clients_are_masked() -> None:
    mappings = (
        PortMapping(container_port=80, host_port=8080, count=2),
        PortMapping(container_port=80, host_port=8080, host_ip="::", masked=True),
    )
    assert network_settings.bindings(mappings, "0.0.0.0") == {
        "80/tcp": [
            {"HostIp": "0.0.0.0", "HostPort": "8080"},
            {"HostIp": "::", "HostPort": "8080", "SourceMasked": True},
        ],
        "81/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8081"}],
    }


def test_links_and_what_a_policy_denied(ctx: Context) -> None:
    denied = (Denial(destination="10.9.9.9", port=22, protocol="tcp", count=3, when=1.5),)
    found = container(
        running(denied=denied), links=("db:store",), egress=Egress(rules=("a.example",))
    )
    assert network_settings.links(found.record) == ["/db:/web/store"]
    assert network_settings.settings(ctx, found)["Denied"] == [
        {
            "Destination": "10.9.9.9", "Port": 22, "Protocol": "tcp", "Count": 3,
            "Last": "1970-01-01T00:00:01.500000000Z",
        }
    ]  # fmt: skip
