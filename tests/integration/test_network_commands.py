"""``podpy network``: what users of docker and of podman type, with real containers."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from support import guest
from support.podman import Podman
from support.podpy import BUSYBOX, Podpy
from support.polling import eventually

SLEEP = ("sleep", "1000")


def run(podpy: Podpy, name: str, *options: str) -> str:
    return podpy.run_detached("--name", name, *options, BUSYBOX, *SLEEP)


def addresses(podpy: Podpy, name: str) -> dict[str, str]:
    """Interface → IPv4 address, as the container itself sees them."""
    lines = podpy("exec", name, "ip", "-4", "-o", "addr").lines
    return {line.split()[1]: line.split()[3] for line in lines if " lo " not in line}


# --- made, listed, shown, removed


def test_create_prints_the_name_and_ls_shows_it(podpy: Podpy) -> None:
    assert podpy("network", "create", "--label", "a=b", "net").text == "net"
    header, *rows = [line.split() for line in podpy("network", "ls").lines]
    assert header == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    assert [row[1:] for row in rows] == [
        ["bridge", "bridge", "local"], ["host", "host", "local"],
        ["net", "bridge", "local"], ["none", "null", "local"],
    ]  # fmt: skip
    shown = json.loads(podpy("network", "ls", "--filter", "name=net", "--format", "json").text)
    network_id = podpy("network", "ls", "-q", "--no-trunc", "--filter", "type=custom").text
    assert (shown["Name"], shown["Labels"], shown["IPv4"]) == ("net", "a=b", "true")
    assert len(network_id) == 64 and network_id.startswith(shown["ID"])
    assert podpy("network", "inspect", network_id[:12], "-f", "{{.Name}}").text == "net"
    assert podpy("network", "ls", "--noheading", "--format", "{{.Name}}").lines[2] == "net"


def test_inspect_speaks_dockers_and_podmans_words(podpy: Podpy) -> None:
    podpy("network", "create", "--subnet", "10.77.0.0/24", "--gateway", "10.77.0.9",
          "--opt", "com.docker.network.driver.mtu=1400", "net")  # fmt: skip
    (shown,) = podpy("network", "inspect", "net").json()
    assert shown["IPAM"]["Config"] == [{"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.9"}]
    assert shown["subnets"] == [{"subnet": "10.77.0.0/24", "gateway": "10.77.0.9"}]
    assert shown["Id"] == shown["id"] and shown["Driver"] == shown["driver"] == "bridge"
    assert shown["dns_enabled"] and not shown["Internal"] and not shown["internal"]
    templates = {
        "{{range .IPAM.Config}}{{.Gateway}}{{end}}": "10.77.0.9",
        "{{(index .IPAM.Config 0).Subnet}}": "10.77.0.0/24",
        "{{range .Subnets}}{{.Subnet}}{{end}}": "10.77.0.0/24",
        "{{.ID}} {{.NetworkInterface}}": f"{shown['id']} {shown['network_interface']}",
        "{{json .Options}}": '{"com.docker.network.driver.mtu":"1400"}',
    }
    for template, expected in templates.items():
        assert podpy("network", "inspect", "--format", template, "net").text == expected
    assert podpy("inspect", "--type", "network", "net").json() == [shown]
    assert podpy("inspect", "net").json() == [shown]
    assert podpy("network", "inspect", "host", "-f", "{{.Driver}}").text == "host"


def test_exit_codes_are_podmans(podpy: Podpy, podman: Podman) -> None:
    """Each line gives the same exit code in both, and the same well-known words on stderr."""
    lines: list[tuple[tuple[str, ...], str]] = [
        (("create", "pair"), ""),
        (("create", "pair"), "already used"),
        (("create", "a b"), "must match"),
        (("create", "host"), ""),
        (("create", "--subnet", "10.1.2.3", "n"), "CIDR"),
        (("create", "--gateway", "10.1.2.3", "n"), ""),
        (("create", "--driver", "weave", "n"), "driver"),
        (("exists", "pair"), ""),
        (("exists", "nope"), ""),
        (("inspect", "nope"), "network not found"),
        (("rm", "nope"), "network not found"),
        (("rm", "pair"), ""),
        (("rm", "podman"), "cannot be removed"),
        (("connect", "nope", "nobody"), ""),
    ]
    for words, says in lines:
        theirs = podman("network", *words, code=None)
        ours = podpy("network", *words, code=None)
        assert ours.code == theirs.code, f"{words}: {ours.stderr} / {theirs.stderr}"
        assert says in ours.stderr and says in theirs.stderr, f"{words}: {theirs.stderr}"
        assert bool(ours.stderr) == bool(theirs.stderr)


def test_no_subnet_of_the_hosts_is_chosen(podpy: Podpy) -> None:
    """The first pool is routed elsewhere: its networks come from the next."""
    conf = Path(podpy.env["XDG_CONFIG_HOME"], "containers", "containers.conf")
    conf.parent.mkdir(exist_ok=True)
    routes = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    busy = next((r for r in routes if r[1] != "00000000" and r[7] != "00000000"), None)
    if busy is None:
        pytest.skip("the host has no route but the default one")
    number = int.from_bytes(bytes.fromhex(busy[1]), "little")
    length = int.from_bytes(bytes.fromhex(busy[7]), "little").bit_count()
    base = ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
    conf.write_text(
        f'[network]\ndefault_subnet_pools = [{{base="{base}/{length}", size={max(length, 24)}}},'
        '{base="10.123.0.0/16", size=24}]\n'
    )
    podpy("network", "create", "net")
    shown = podpy("network", "inspect", "net", "-f", "{{(index .Subnets 0).Subnet}}").text
    assert shown == "10.123.0.0/24"
    done = podpy("network", "create", "--subnet", f"{base}/{length}", "clash")
    assert f"{base}/{length}" in done.stderr and "warning" in done.stderr


# --- with containers


def test_a_container_moves_between_networks_while_it_runs(podpy: Podpy) -> None:
    for name, subnet in (("one", "10.71.0.0/24"), ("two", "10.72.0.0/24")):
        podpy("network", "create", "--subnet", subnet, name)
    container = run(podpy, "c", "--network", "one")
    other = run(podpy, "other", "--network", "two", *guest.with_python())
    assert addresses(podpy, "c") == {"eth0": "10.71.0.2/24"}
    podpy("network", "connect", "--alias", "db", "--ip", "10.72.0.77", "two", "c")
    assert addresses(podpy, "c") == {"eth0": "10.71.0.2/24", "eth1": "10.72.0.77/24"}
    assert podpy("exec", "other", *guest.script(guest.PING, "10.72.0.77")).text == "echo"
    assert "10.72.0.77" in podpy("exec", "other", "nslookup", "db").stdout
    found = podpy("network", "inspect", "two").json()[0]["Containers"]
    assert {key: each["IPv4Address"] for key, each in found.items()} == {
        container: "10.72.0.77/24", other: "10.72.0.2/24",
    }  # fmt: skip
    refused = podpy.fails("network", "connect", "two", "c")
    assert "already connected" in refused.stderr
    podpy("network", "disconnect", "one", "c")
    assert addresses(podpy, "c") == {"eth1": "10.72.0.77/24"}
    assert "not connected" in podpy.fails("network", "disconnect", "one", "c").stderr
    podpy("restart", "-t", "0", "c")
    assert addresses(podpy, "c") == {"eth0": "10.72.0.77/24"}, "its record was changed as well"
    assert "10.72.0.77" in podpy("exec", "other", "nslookup", "db").stdout


def test_a_container_that_does_not_run_is_connected_for_its_next_start(podpy: Podpy) -> None:
    for name in ("one", "two"):
        podpy("network", "create", name)
    podpy("create", "--name", "c", "--network", "one", BUSYBOX, *SLEEP)
    podpy("network", "connect", "two", "c")
    podpy("network", "disconnect", "one", "c")
    podpy("start", "c")
    assert list(addresses(podpy, "c")) == ["eth0"]
    joined = podpy(
        "inspect", "c", "-f", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}"
    )
    assert joined.text == "two"
    podpy("network", "disconnect", "two", "c")
    assert addresses(podpy, "c") == {}, "a container may be on no network at all"


@pytest.mark.parametrize("mode", ["none", "host", "slirp4netns"])
def test_what_is_on_no_bridge_network_cannot_be_connected(podpy: Podpy, mode: str) -> None:
    podpy("network", "create", "net")
    podpy("create", "--name", "c", "--network", mode, BUSYBOX, *SLEEP)
    assert "invalid network mode" in podpy.fails("network", "connect", "net", "c").stderr


def test_addresses_that_cannot_be_given_are_refused_and_nothing_changes(podpy: Podpy) -> None:
    podpy("network", "create", "--subnet", "10.73.0.0/24", "net")
    run(podpy, "holder", "--network", "net", "--ip", "10.73.0.50")
    run(podpy, "c")
    for address in ("10.73.0.50", "10.73.0.1", "10.74.0.5", "10.73.0.255", "nonsense"):
        podpy.fails("network", "connect", "--ip", address, "net", "c")
    for option in (
        "--link=holder", "--link-local-ip=169.254.1.1", "--gw-priority=5", "--mac-address=x",
        "--driver-opt=a=b", "--ip6=fd00::5",
    ):  # fmt: skip
        podpy.fails("network", "connect", option, "net", "c")
    assert list(addresses(podpy, "c")) == ["eth0"]
    ifname = "com.docker.network.endpoint.ifname=lan7"
    podpy("network", "connect", "--driver-opt", ifname, "--mac-address", "02:11:22:33:44:55",
          "net", "c")  # fmt: skip
    assert "lan7" in addresses(podpy, "c")
    assert "02:11:22:33:44:55" in podpy("exec", "c", "ip", "link", "show", "lan7").stdout


def test_a_second_subnet_has_room_when_the_first_has_none(podpy: Podpy) -> None:
    podpy("network", "create", "--subnet", "10.73.1.0/30", "--subnet", "10.73.2.0/24", "net")
    for name in ("first", "second"):
        run(podpy, name, "--network", "net")
    run(podpy, "third", "--network", "net", "--ip", "10.73.2.9")
    found = {name: addresses(podpy, name)["eth0"] for name in ("first", "second", "third")}
    assert found == {"first": "10.73.1.2/30", "second": "10.73.2.2/24", "third": "10.73.2.9/24"}
    served = ("sh", "-c", "echo hello | nc -l -p 80")
    podpy("exec", "-d", "second", *served)
    eventually(lambda: podpy("exec", "first", "nc", "-w1", "second", "80", code=None).text)


def test_networks_in_use_are_not_removed(podpy: Podpy) -> None:
    podpy("network", "create", "net")
    podpy("network", "create", "unused")
    run(podpy, "runs", "--network", "net")
    podpy("create", "--name", "waits", "--network", "net", BUSYBOX, "true")
    refused = podpy("network", "rm", "net", "unused", code=2)
    assert refused.text == "unused"
    assert "network is being used" in refused.stderr
    assert "runs" in refused.stderr and "waits" in refused.stderr
    podpy("network", "create", "unused")
    assert podpy("network", "prune", "-f").lines == ["Deleted Networks:", "unused", ""]
    assert podpy("network", "prune", "-f").text == ""
    assert podpy("network", "rm", "-f", "-t", "0", "net", "nope").text == "net"
    assert podpy("ps", "-aq").text == ""


def test_prune_asks(podpy: Podpy) -> None:
    podpy("network", "create", "net")
    assert podpy("network", "prune", input="n\n", code=1).text == ""
    podpy("network", "exists", "net")
    assert "net" in podpy("network", "prune", input="y\n").lines


def test_reload_leaves_containers_as_they_were(podpy: Podpy) -> None:
    podpy("network", "create", "net")
    container = run(podpy, "c", "--network", "net")
    before = addresses(podpy, "c")
    assert podpy("network", "reload", "c").text == container
    assert addresses(podpy, "c") == before
    podpy("create", "--name", "waits", BUSYBOX, "true")
    assert podpy("network", "reload", "--all").text == container
    assert "not running" in podpy.fails("network", "reload", "waits").stderr
    run(podpy, "alone", "--network", "none")
    assert podpy("network", "reload", "--all").text == container


def test_update_changes_name_servers(podpy: Podpy) -> None:
    podpy("network", "create", "--dns", "127.0.0.9", "net")
    run(podpy, "c", "--network", "net")
    podpy("network", "update", "net", "--dns-drop", "127.0.0.9", "--dns-add", "127.0.0.8")
    shown = podpy("network", "inspect", "net", "-f", "{{.NetworkDNSServers}}").text
    assert shown == "[127.0.0.8]"
    podpy("exec", "c", "nslookup", "c")


def test_a_network_of_the_same_name_is_another_one(podpy: Podpy) -> None:
    podpy("network", "create", "--subnet", "10.75.0.0/24", "net")
    run(podpy, "c", "--network", "net")
    podpy("rm", "-f", "-t", "0", "c")
    podpy("network", "rm", "net")
    podpy("network", "create", "--subnet", "10.76.0.0/24", "net")
    run(podpy, "c", "--network", "net")
    assert addresses(podpy, "c") == {"eth0": "10.76.0.2/24"}


def test_a_new_network_may_have_the_place_of_a_removed_one_at_once(podpy: Podpy) -> None:
    """Before the network supervisor, kept by another container, has tidied up."""
    run(podpy, "keeper")
    for name in ("one", "two"):
        podpy("network", "create", "--subnet", "10.73.0.0/24", "--interface-name", "br73", name)
        run(podpy, name, "--network", name)
        assert "10.73.0.2" in podpy("exec", name, "nslookup", name).stdout
        podpy("rm", "-f", "-t", "0", name)
        podpy("network", "rm", name)


def test_networks_made_at_once_do_not_clash(podpy: Podpy) -> None:
    makers = [podpy.start("network", "create", f"n{number}") for number in range(8)]
    for maker in makers:
        maker.wait().expect(0)
    names = [f"n{number}" for number in range(8)]
    template = "{{(index .Subnets 0).Subnet}} {{.NetworkInterface}}"
    shown = podpy("network", "inspect", "-f", template, *names).lines
    subnets, interfaces = zip(*(line.split() for line in shown), strict=True)
    assert len(set(subnets)) == len(set(interfaces)) == 8


def test_the_default_network_is_chosen_in_containers_conf(podpy: Podpy) -> None:
    conf = Path(podpy.env["XDG_CONFIG_HOME"], "containers", "containers.conf")
    conf.parent.mkdir(exist_ok=True)
    conf.write_text('[network]\ndefault_network = "lan"\ndefault_subnet = "10.78.0.0/24"\n')
    run(podpy, "c")
    assert addresses(podpy, "c") == {"eth0": "10.78.0.2/24"}
    assert "cannot be removed" in podpy.fails("network", "rm", "lan").stderr
    assert not (podpy.store / "networks").exists()


# --- events


def test_events_tell_of_a_containers_life(podpy: Podpy) -> None:
    podpy("network", "create", "net")
    container = podpy("run", "--name", "c", "--network", "net", "--label", "tier=web", BUSYBOX,
                      "sh", "-c", "exit 7", code=7)  # fmt: skip
    assert container.code == 7
    podpy("rm", "c")
    podpy("network", "rm", "net")
    lines = podpy("events", "--stream=false", "--format", "{{.Type}} {{.Action}} {{.Name}}").lines
    assert lines[-6:] == [
        "network create net", "container create c", "container start c", "container die c",
        "container destroy c", "network destroy net",
    ]  # fmt: skip
    died = podpy("events", "--stream=false", "-f", "event=died", "-f", "label=tier=web",
                 "--format", "json").json()  # fmt: skip
    assert died["status"] == died["Action"] == "die"
    assert died["Actor"]["Attributes"]["exitCode"] == "7"
    assert died["id"] == died["Actor"]["ID"] and died["from"] == BUSYBOX
    assert died["timeNano"] // 10**9 == died["time"]
    plain = podpy("events", "--since", "10m", "--until", "0s", "--filter", "event=create",
                  "--filter", "container=c").text  # fmt: skip
    assert f" container create {died['id']} (image={BUSYBOX}, name=c, tier=web)" in plain
    short = podpy("events", "--stream=false", "--no-trunc=false", "--filter", "event=create",
                  "--filter", "container=c").text  # fmt: skip
    assert f" container create {died['id'][:12]} (" in short


def test_events_tell_of_exec(podpy: Podpy) -> None:
    run(podpy, "c", "--network", "none")
    podpy("exec", "c", "sh", "-c", "exit 7", code=7)
    podpy("exec", "-d", "c", "true")
    lines = podpy("events", "--stream=false", "-f", "container=c").lines[2:]
    found = [line.split()[2:3] + line.partition("(")[2].split(", ")[:1] for line in lines]
    assert found == [
        ["exec_start", "execCommand=sh"], ["exec_die", "exitCode=7"],
        ["exec_start", "execCommand=true"],
    ]  # fmt: skip


def test_events_are_followed_as_they_happen(podpy: Podpy) -> None:
    podpy("network", "create", "before")
    follower = podpy.start(
        "events", "--filter", "type=network", "--format", "{{.Action}} {{.Name}}"
    )
    reader = podpy.start("events", "--since", "1m", "--until", "-1s", "--filter", "type=network")
    reader.expect_output("before")

    def heard() -> bool:
        """Nobody says when a follower has begun to listen."""
        podpy("network", "create", "--ignore", "during")
        podpy("network", "rm", "during")
        return "destroy during" in follower.stdout

    eventually(heard)
    assert "create during" in follower.stdout
    assert "before" not in follower.stdout
    follower.signal(2)
    assert follower.wait().code == 130
    assert reader.wait().expect(0).stdout.count("network create") >= 1


def test_the_log_of_events_is_turned_over(podpy: Podpy) -> None:
    log = podpy.store / "events.jsonl"
    network = ("--filter", "type=network", "--format", "{{.Action}} {{.Name}}")
    follower = podpy.start("events", "--since", "1m", *network)
    podpy("network", "create", "first")
    follower.expect_output("create first")
    with log.open("ab") as file:
        file.write((b"not json" * 10_000 + b"\n") * 60)
    podpy("network", "create", "second")
    assert not log.exists() and log.with_name("events.jsonl.1").exists()
    podpy("network", "create", "third")
    follower.expect_output("create third")
    shown = ["create first", "create second", "create third"]
    assert podpy("events", "--stream=false", *network).lines == shown
    assert follower.stdout.splitlines() == shown


# --- when the network supervisor is killed


def supervisor(podpy: Podpy) -> int:
    """The pid of the network supervisor that this store's containers have now."""
    (lock,) = podpy.runtime.glob("network*/lock")
    return int(json.loads(lock.read_text())["pid"])


def test_connect_waits_for_the_new_supervisor(podpy: Podpy) -> None:
    podpy("network", "create", "--subnet", "10.79.0.0/24", "net")
    run(podpy, "c")
    for number in range(3):
        os.kill(supervisor(podpy), signal.SIGKILL)
        podpy("network", "connect", "--ip", f"10.79.0.{number + 7}", "net", "c")
        assert f"10.79.0.{number + 7}/24" in addresses(podpy, "c").values()
        os.kill(supervisor(podpy), signal.SIGKILL)
        podpy("network", "disconnect", "net", "c")
        assert list(addresses(podpy, "c")) == ["eth0"]
    os.kill(supervisor(podpy), signal.SIGKILL)
    podpy("network", "reload", "--all")
    assert list(addresses(podpy, "c")) == ["eth0"]
