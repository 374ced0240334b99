"""The options of slirp4netns and the command line they become."""

from __future__ import annotations

import pytest

from podpy.errors import UsageError
from podpy.net import ports, slirp


def command(*options: str) -> list[str]:
    return slirp.arguments("/usr/bin/slirp4netns", 42, slirp.parse_options(options))


def test_the_defaults_close_the_host() -> None:
    line = command()
    assert "--disable-host-loopback" in line
    assert {"--enable-sandbox", "--enable-seccomp", "--configure", "--mtu=65520"} <= set(line)
    assert line[-2:] == ["42", "tap0"]


def test_the_host_is_opened_on_request_only() -> None:
    assert "--disable-host-loopback" not in command("allow_host_loopback=true")
    assert "--disable-host-loopback" in command("allow_host_loopback=false")


def test_options_reach_the_helper() -> None:
    line = command("mtu=1500", "cidr=10.9.0.0/16", "enable_ipv6=false", "outbound_addr=127.0.0.1")
    assert {"--mtu=1500", "--cidr=10.9.0.0/16", "--outbound-addr=127.0.0.1"} <= set(line)
    assert "--enable-ipv6" not in line
    assert "--outbound-addr6=::1" in command("outbound_addr6=::1")
    assert "--outbound-addr=lo" in command("outbound_addr=lo")


def test_addresses_follow_the_network() -> None:
    settings = slirp.parse_options(["cidr=10.9.255.128/25"])
    assert settings.gateway == "10.9.255.130"
    assert settings.resolver == "10.9.255.131"
    assert settings.address == "10.9.255.228"


@pytest.mark.parametrize(
    "option",
    [
        "allow_host_loopback=yes",
        "allow_host_loopback",
        "enable_ipv6=",
        "mtu=0",
        "mtu=65522",
        "mtu=1500b",
        "mtu=99999999999",
        "cidr=10.0.2.0",
        "cidr=10.0.2.1/24",
        "cidr=10.0.2.0/26",
        "cidr=fd00::/64",
        "cidr=10.0.2.0/24/1",
        "outbound_addr=nosuchif0",
        "outbound_addr=::1",
        "outbound_addr=../lo",
        "outbound_addr6=127.0.0.1",
        "port_handler=magic",
        "no_such_option=1",
        "",
    ],
)
def test_what_cannot_be_honoured_is_refused(option: str) -> None:
    with pytest.raises(UsageError):
        slirp.parse_options([option])


def test_rootlesskit_is_refused_with_its_reason() -> None:
    with pytest.raises(UsageError, match="port_handler=rootlesskit") as caught:
        slirp.parse_options(["port_handler=rootlesskit"])
    assert "port_handler=slirp4netns" in caught.value.hint
    slirp.parse_options(["port_handler=slirp4netns"])


def test_an_ipv6_source_needs_ipv6() -> None:
    with pytest.raises(UsageError, match="enable_ipv6"):
        slirp.parse_options(["enable_ipv6=false", "outbound_addr6=::1"])


def test_ports_on_ipv6_addresses_point_to_pasta() -> None:
    slirp.check_publishable(ports.parse("8080:80"))
    with pytest.raises(UsageError, match="IPv4") as caught:
        slirp.check_publishable(ports.parse("[::1]:8080:80"))
    assert "pasta" in caught.value.hint
