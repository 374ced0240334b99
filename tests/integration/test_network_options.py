"""Containers on networks as options ask for them, and as ps, inspect and port show them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from podpy.net import resolv
from support import guest, host, images
from support.podpy import Podpy
from support.polling import eventually


@pytest.fixture(autouse=True)
def _networks(podpy: Podpy) -> Iterator[None]:
    host.require("slirp4netns", "/dev/net/tun")
    podpy("network", "create", "--subnet", "10.91.1.0/24", "--ipv6",
          "--subnet", "fd00:91:1::/64", "lan")  # fmt: skip
    podpy("network", "create", "--subnet", "10.91.2.0/24", "lan2")
    yield


def run(podpy: Podpy, image: str, name: str, *options: str) -> str:
    return podpy.run_detached("--name", name, *options, image, "sleep", "1000")


def inspected(podpy: Podpy, name: str) -> dict[str, Any]:
    found: dict[str, Any] = podpy("inspect", name).json()[0]
    return found


def addresses(podpy: Podpy, name: str) -> dict[str, str]:
    """Interface → IPv4 address, as the container sees them."""
    lines = podpy("exec", name, "ip", "-o", "-4", "address").lines
    return {line.split()[1]: line.split()[3] for line in lines}


def hosts(podpy: Podpy, name: str) -> list[list[str]]:
    return [line.split() for line in podpy("exec", name, "cat", "/etc/hosts").lines]


# --- networks ----------------------------------------------------------------------


def test_nothing_said_is_the_default_network(podpy: Podpy, busybox: str) -> None:
    run(podpy, busybox, "c")
    found = inspected(podpy, "c")
    settings, network = found["NetworkSettings"], found["NetworkSettings"]["Networks"]["bridge"]
    assert found["HostConfig"]["NetworkMode"] == "bridge"
    assert addresses(podpy, "c")["eth0"] == f"{settings['IPAddress']}/{settings['IPPrefixLen']}"
    for key in ("IPAddress", "Gateway", "MacAddress", "EndpointID", "IPPrefixLen"):
        assert settings[key] == network[key]
        assert network[key]
    assert network["NetworkID"] == podpy("network", "inspect", "bridge").json()[0]["Id"]


def test_containers_conf_names_the_default(podpy: Podpy, busybox: str) -> None:
    directory = podpy.directory / "config" / "containers"
    directory.mkdir()
    mode = ("inspect", "-f", "{{.HostConfig.NetworkMode}}")
    for text, found in (
        ('[network]\ndefault_network = "lan"\n', "lan"),
        ('[containers]\nnetns = "slirp4netns"\n', "slirp4netns"),
        ('[network]\ndefault_rootless_network_cmd = "slirp4netns"\n', "slirp4netns"),
        ('[containers]\nnetns = "none"\n', "none"),
    ):
        (directory / "containers.conf").write_text(text)
        name = podpy("create", busybox, "true").text
        assert podpy(*mode, name).text.partition(":")[0] == found


def test_several_networks(podpy: Podpy, busybox: str) -> None:
    run(
        podpy, busybox, "c", "--network", "lan:ip=10.91.1.7,ip6=fd00:91:1::7,alias=one",
        "--network", "name=lan2,ip=10.91.2.8,mac-address=92:d0:c6:0a:29:33,alias=two",
        "--network", "bridge:interface_name=out0",
    )  # fmt: skip
    found = addresses(podpy, "c")
    assert found["eth0"] == "10.91.1.7/24"
    assert found["eth1"] == "10.91.2.8/24"
    assert found["out0"].startswith("10.88.")
    links = podpy("exec", "c", "ip", "-o", "link", "show", "eth1").stdout
    assert "92:d0:c6:0a:29:33" in links
    six = podpy("exec", "c", "ip", "-o", "-6", "address", "show", "eth0").stdout
    assert "fd00:91:1::7/64" in six
    networks = inspected(podpy, "c")["NetworkSettings"]["Networks"]
    assert list(networks) == ["lan", "lan2", "bridge"]
    assert networks["lan"]["IPAMConfig"] == {
        "IPv4Address": "10.91.1.7", "IPv6Address": "fd00:91:1::7"
    }  # fmt: skip
    assert networks["lan"]["GlobalIPv6Address"] == "fd00:91:1::7"
    assert networks["lan"]["Aliases"] == ["one"]
    assert {"c", "two"} <= set(networks["lan2"]["DNSNames"])
    for text in ("10.91.1.7", "fd00:91:1::7", "10.91.2.8"):
        assert any(line[0] == text and "c" in line for line in hosts(podpy, "c"))


def test_aliases_resolve_where_they_are_known(podpy: Podpy, busybox: str) -> None:
    run(podpy, busybox, "db", "--network", "lan:alias=one", "--network", "lan2:alias=two")

    def asked(network: str, name: str) -> bool:
        done = podpy("run", "--rm", "--network", network, busybox, "nslookup", name, code=None)
        return done.code == 0

    assert asked("lan", "one")
    assert asked("lan2", "two")
    assert asked("lan2", "db")
    assert not asked("lan2", "one")
    assert not asked("bridge", "db")


def test_addresses_of_the_first_network(podpy: Podpy, busybox: str) -> None:
    run(
        podpy, busybox, "c", "--network", "lan", "--network", "lan2", "--ip", "10.91.1.9",
        "--mac-address", "92-D0-C6-0A-29-33", "--network-alias", "all",
    )  # fmt: skip
    assert addresses(podpy, "c")["eth0"] == "10.91.1.9/24"
    networks = inspected(podpy, "c")["NetworkSettings"]["Networks"]
    assert networks["lan"]["MacAddress"] == "92:d0:c6:0a:29:33"
    assert [each["Aliases"] for each in networks.values()] == [["all"], ["all"]]


def test_an_address_is_kept_over_restarts_and_is_nobody_elses(podpy: Podpy, busybox: str) -> None:
    run(podpy, busybox, "c", "--network", "lan:ip=10.91.1.9")
    done = podpy.fails("run", "--rm", "--network", "lan", "--ip", "10.91.1.9", busybox, "true")
    assert "10.91.1.9 is in use" in done.stderr
    podpy("restart", "-t", "0", "c")
    assert addresses(podpy, "c")["eth0"] == "10.91.1.9/24"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--network", "nowhere"], "network not found"),
        (["--network", "lan", "--network", "host"], "cannot set multiple networks"),
        (["--network", "lan", "--network", "lan"], "specified multiple times"),
        (["--network", "lan:ip=10.91.2.7"], "not in any subnet"),
        (["--network", "lan2:ip6=fd00:91:1::7"], "not in any subnet"),
        (["--network", "lan:ip=10.91.1.1"], "gateway"),
        (["--network", "lan:what=1"], "invalid option"),
        (["--network", "host", "--ip", "10.91.1.7"], "network mode is bridge"),
        (["--network", "none", "--egress", "none"], "network mode is bridge"),
        (["--network", "host", "--link", "db"], "can't be used with links"),
        (["--egress", "none,a.example"], "nothing else"),
        (["--link-local-ip", "169.254.1.1"], "cannot be honoured"),
        (["--network", "lan", "--link", "nobody"], "could not get container"),
    ],
)
def test_mistakes(podpy: Podpy, busybox: str, options: list[str], reason: str) -> None:
    assert reason in podpy.fails("run", "--rm", *options, busybox, "true").stderr
    assert podpy.containers() == []


def test_a_strange_port_of_an_image_does_not_keep_it_from_running(podpy: Podpy) -> None:
    name = podpy.load_layers(
        "localhost/strange:latest", images.busybox_layer(), ExposedPorts={"http": {}, "80/tcp": {}}
    )
    done = podpy("run", "--rm", name, "echo", "ran")
    assert done.text == "ran"
    assert "'http', which is no port" in done.stderr


# --- files -------------------------------------------------------------------------


def test_names_are_asked_of_the_gateway(podpy: Podpy, busybox: str) -> None:
    options = ["--dns", "10.7.7.7", "--dns-search", "a.example", "--dns-option", "ndots:3"]
    shown = podpy("run", "--rm", "--network", "lan", *options, busybox, "cat", "/etc/resolv.conf")
    assert shown.lines == ["search a.example", "nameserver 10.91.1.1", "options ndots:3"]
    podpy("network", "create", "--disable-dns", "mute")
    shown = podpy("run", "--rm", "--network", "mute", *options, busybox, "cat", "/etc/resolv.conf")
    assert shown.lines[1] == "nameserver 10.7.7.7"


def test_the_host_is_named_where_it_is_reached(podpy: Podpy, busybox: str) -> None:
    own = resolv.host_address()
    if not own:
        pytest.skip("this host has no address but the loopback")
    run(podpy, busybox, "c", "--add-host", "gate:host-gateway")
    found = hosts(podpy, "c")
    assert [own, "gate"] in found
    assert not any("host.containers.internal" in line for line in found)


def test_what_the_hosts_file_begins_with(podpy: Podpy, busybox: str) -> None:
    base = podpy.directory / "hosts"
    base.write_text("10.9.9.9 mine")
    for options in (["--network", "lan"], ["--network", "none"]):
        shown = podpy("run", "--rm", "--hosts-file", base, *options, busybox, "cat", "/etc/hosts")
        assert shown.lines[0] == "10.9.9.9 mine"
        shown = podpy("run", "--rm", "--hosts-file", "none", *options, busybox, "cat", "/etc/hosts")
        assert len(shown.lines) in (1, 2)
    assert (
        "No such file"
        in podpy.fails("run", "--rm", "--hosts-file", "/nonexistent", busybox, "true").stderr
    )


def test_domain_and_host_name(podpy: Podpy, busybox: str) -> None:
    show = "cat /proc/sys/kernel/domainname /etc/hosts; test ! -e /etc/hostname"
    options = ["-h", "web", "--domainname", "a.example", "--no-hostname"]
    done = podpy("run", "--rm", "--name", "c", *options, busybox, "sh", "-c", show)
    assert done.lines[0] == "a.example"
    assert done.lines[-1].split()[1:] == ["web.a.example", "web", "c"]


# --- links -------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["bridge", "lan"])
def test_a_linked_container_is_reached_by_its_alias(
    podpy: Podpy, busybox: str, network: str
) -> None:
    command = guest.script(guest.SERVER, "80")
    podpy.run_detached(
        "--name", "web", "--network", network, "--expose", "80", "-e", "COLOUR=red",
        *guest.with_python(), busybox, *command,
    )  # fmt: skip
    eventually(lambda: "serving" in podpy("logs", "web").stdout)
    where = inspected(podpy, "web")["NetworkSettings"]["Networks"][network]["IPAddress"]
    ask = "nc -w 5 shop 80; echo; env"
    done = podpy(
        "run", "--rm", "--name", "c", "--network", network, "--link", "web:shop", busybox, "sh",
        "-c", ask,
    )  # fmt: skip
    assert done.lines[0].startswith("80 ")
    assert {
        "SHOP_NAME=/c/shop",
        f"SHOP_PORT=tcp://{where}:80",
        f"SHOP_PORT_80_TCP=tcp://{where}:80",
        f"SHOP_PORT_80_TCP_ADDR={where}",
        "SHOP_PORT_80_TCP_PORT=80",
        "SHOP_PORT_80_TCP_PROTO=tcp",
        "SHOP_ENV_COLOUR=red",
    } <= set(done.lines)


def test_a_link_follows_the_other_container(podpy: Podpy, busybox: str) -> None:
    run(podpy, busybox, "db", "--network", "lan")
    run(podpy, busybox, "web", "--network", "lan", "--link", "db:store")
    assert inspected(podpy, "web")["HostConfig"]["Links"] == ["/db:/web/store"]

    def known() -> list[str]:
        return [line[0] for line in hosts(podpy, "web") if "store" in line]

    before = known()
    podpy("stop", "-t", "0", "db")
    run(podpy, busybox, "other", "--network", "lan", "--ip", before[0])
    podpy("start", "db")
    now = addresses(podpy, "db")["eth0"].partition("/")[0]
    assert known()[0] == now != before[0]
    assert now in podpy("exec", "web", "nslookup", "store").stdout  # by DNS as well
    assert "STORE_NAME=/web/store" in podpy("exec", "web", "env").lines


def test_names_follow_a_rename(podpy: Podpy, busybox: str) -> None:
    run(podpy, busybox, "db", "--network", "lan")
    run(podpy, busybox, "web", "--network", "lan", "--link", "db:store")
    podpy("rename", "db", "data")
    assert podpy("exec", "web", "nslookup", "data").code == 0
    assert podpy("exec", "web", "nslookup", "db", code=None).code != 0
    assert hosts(podpy, "data")[-1][-1] == "data"
    assert inspected(podpy, "web")["HostConfig"]["Links"] == ["/data:/web/store"]
    podpy("restart", "-t", "0", "web")
    assert any({"store", "data"} <= {*line} for line in hosts(podpy, "web"))


def test_a_link_needs_a_container_that_runs_on_a_network_of_ours(
    podpy: Podpy, busybox: str
) -> None:
    podpy("create", "--name", "db", "--network", "lan", busybox, "true")
    done = podpy.fails("run", "--rm", "--network", "lan", "--link", "db", busybox, "true")
    assert "cannot link to a non running container: /db AS /" in done.stderr
    run(podpy, busybox, "db2", "--network", "lan")
    done = podpy.fails("run", "--rm", "--link", "db2", busybox, "true")
    assert "does not belong to the network bridge" in done.stderr


# --- what is shown -----------------------------------------------------------------


def test_listings(podpy: Podpy, busybox: str) -> None:
    run(podpy, busybox, "both", "--network", "lan", "--network", "lan2")
    run(podpy, busybox, "one", "--network", "lan2")
    podpy("create", "--name", "idle", "--network", "lan", busybox, "true")
    run(podpy, busybox, "none", "--network", "none")
    shown = podpy("ps", "-a", "--format", "{{.Names}} {{.Networks}}").lines
    assert sorted(shown) == ["both lan,lan2", "idle lan", "none none", "one lan2"]

    def listed(value: str) -> list[str]:
        named = podpy("ps", "-a", "--filter", f"network={value}", "--format", "{{.Names}}").lines
        return sorted(named)

    assert listed("lan") == ["both", "idle"]
    assert listed("lan2") == ["both", "one"]
    assert listed("none") == ["none"]
    assert listed("bridge") == []
    identity = podpy("network", "inspect", "lan2").json()[0]["Id"]
    assert listed(identity[:12]) == ["both", "one"]
    idle = inspected(podpy, "idle")["NetworkSettings"]["Networks"]["lan"]
    assert idle["NetworkID"]
    assert not idle["IPAddress"]


def test_ports_and_whose_clients_are_masked(podpy: Podpy, busybox: str) -> None:
    run(podpy, busybox, "c", "-p", "127.0.0.1:18080:80", "-P", "--expose", "81")
    shown = podpy("port", "c")
    published = inspected(podpy, "c")["NetworkSettings"]["Ports"]
    assert "80/tcp -> 127.0.0.1:18080" in shown.lines
    assert published["80/tcp"][0]["HostPort"] == "18080"
    for container_port, bindings in published.items():
        for binding in bindings:
            address = f"[{binding['HostIp']}]" if ":" in binding["HostIp"] else binding["HostIp"]
            line = f"{container_port} -> {address}:{binding['HostPort']}"
            assert line in shown.lines
            masked = f"{line}: source masked" in shown.stderr
            assert masked == binding.get("SourceMasked", False)
    assert podpy("port", "c", "80").lines == ["127.0.0.1:18080"]


def test_a_policy_is_shown(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "c", "--egress", "a.example:443", "--egress", "10.1.2.3/8", busybox)
    found = inspected(podpy, "c")
    assert found["HostConfig"]["Egress"] == ["a.example:443", "10.0.0.0/8"]
    assert found["NetworkSettings"]["Denied"] == []


def test_files_follow_connect_and_disconnect(podpy: Podpy, busybox: str) -> None:
    run(podpy, busybox, "c", "--network", "lan")
    podpy("network", "connect", "--ip", "10.91.2.9", "lan2", "c")
    assert any(line[0] == "10.91.2.9" for line in hosts(podpy, "c"))
    podpy("network", "disconnect", "lan", "c")
    assert {line[0] for line in hosts(podpy, "c") if "c" in line} == {"10.91.2.9"}
    servers = resolv.parse_resolv_conf(podpy("exec", "c", "cat", "/etc/resolv.conf").stdout)[0]
    assert servers == ("10.91.2.1",)
    assert list(inspected(podpy, "c")["NetworkSettings"]["Networks"]) == ["lan2"]
