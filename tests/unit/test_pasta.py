"""The options of pasta and the command line they become."""

from __future__ import annotations

import pytest

from podpy.errors import UsageError
from podpy.net import pasta, ports


def command(*options: str, publish: tuple[str, ...] = ()) -> str:
    mappings = [single for text in publish for m in ports.parse(text) for single in ports.expand(m)]
    return " ".join(pasta.arguments(pasta.parse_options(options), mappings))


def test_the_defaults_forward_nothing() -> None:
    line = command()
    assert "--no-map-gw" in line
    for option in ("-t none", "-u none", "-T none", "-U none"):
        assert option in line


def test_only_the_published_ports_are_forwarded() -> None:
    line = command(publish=("8080:80", "127.0.0.1:8000-8001:90-91", "[::1]:53:5353/udp"))
    assert "-t 8080:80 -t 127.0.0.1/8000:90 -t 127.0.0.1/8001:91" in line
    assert "-u ::1/53:5353" in line
    assert "-t none" not in line
    assert "-u none" not in line


def test_the_gateway_is_mapped_on_request_only() -> None:
    assert "--no-map-gw" not in command("--map-gw")
    assert pasta.parse_options(["--map-gw"]).map_gateway
    assert "--no-map-gw" in command("--no-map-gw")


def test_options_are_passed_with_their_values() -> None:
    line = command("--mtu", "1500", "-a", "10.0.2.15", "--ipv4-only", "-T", "5201", "-t=22")
    assert "--mtu 1500 -a 10.0.2.15 --ipv4-only -T 5201 -t=22" in line
    assert "-T none" not in line
    assert "-t none" not in line
    assert "-U none" in line


def test_the_resolver_and_address_can_be_chosen() -> None:
    settings = pasta.parse_options(["--dns-forward=10.0.2.3", "-a", "10.0.2.15/24"])
    assert (settings.resolver, settings.address) == ("10.0.2.3", "10.0.2.15")
    assert pasta.parse_options([]).resolver == pasta.RESOLVER
    assert "--dns-forward 169" not in command("--dns-forward=10.0.2.3")


@pytest.mark.parametrize("option", ["--pcap", "--log-file=/x", "--runas", "-f", "", "10.0.2.3"])
def test_options_that_are_not_about_the_network_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match="unknown network option"):
        pasta.parse_options([option])


def test_a_missing_value_is_told() -> None:
    with pytest.raises(UsageError, match="--mtu"):
        pasta.parse_options(["--ipv4-only", "--mtu"])
