"""The world of the other tests: what they rely on there is so."""

from __future__ import annotations

import socket
import time

import pytest

from support.polling import eventually
from support.world import VISIT, Question, World


@pytest.mark.parametrize("version", [4, 6])
def test_host_and_world_reach_each_other(world: World, version: int) -> None:
    server = world.serve(address=world.server if version == 4 else world.server6)
    own = world.host if version == 4 else world.host6
    with socket.create_connection((server.address, server.port), timeout=5) as client:
        assert client.makefile().readline() == f"{own}\n"
        assert client.getsockname()[0] == own
    eventually(lambda: server.lines == [f"tcp {own}"])

    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with socket.create_server((own, 0), family=family) as listener:
        there = world.start_python(VISIT, own, listener.getsockname()[1], "tcp", "", 5)
        client, sender = listener.accept()
        assert sender[0] == (world.address if version == 4 else world.address6)
        client.send(b"welcome")
        client.close()
        there.expect_output("welcome")
    assert world.visit(own, 1, timeout=1) == ""
    assert world.pings(own)


def test_datagrams_are_echoed(world: World) -> None:
    server = world.serve()
    assert world.visit(server.address, server.port, udp=True, send="hi") == f"{server.address} hi"


def test_the_hosts_resolver_is_the_worlds(world: World) -> None:
    assert socket.gethostbyname("server.world.test") == world.server
    assert socket.gethostbyname("203-0-113-9.ip.test") == "203.0.113.9"
    world.name("of-this-test.test", A=["203.0.113.77"], AAAA=["2001:db8:2::77"])
    found = {each[4][0] for each in socket.getaddrinfo("of-this-test.test", 1)}
    assert found == {"203.0.113.77", "2001:db8:2::77"}
    asked = Question(world.address, world.host, "udp", "of-this-test.test", "A")
    assert asked in world.questions("of-this-test.test")
    world.unname("of-this-test.test")
    with pytest.raises(socket.gaierror):
        socket.gethostbyname("of-this-test.test")


def test_a_long_answer_comes_by_tcp(world: World) -> None:
    world.name("long.test", TXT=["x" * 200] * 5)
    done = world("dig", "+short", "@198.51.100.1", "long.test", "TXT")
    assert len(done.lines) == 5
    assert [each.transport for each in world.questions("long.test")][-1] == "tcp"


def test_programs_of_the_world_end_with_their_test(world: World) -> None:
    sleeper = world.start("sh", "-c", "sleep 1000 & echo $!; wait")
    sleeper.expect_output("\n")
    pid = int(sleeper.stdout)
    assert world("cat", f"/proc/{pid}/comm").text == "sleep"
    world.end_background()
    deadline = time.monotonic() + 5
    while world("test", "-e", f"/proc/{pid}/fd/0", code=None).code == 0:
        assert time.monotonic() < deadline


def test_exit_codes_come_back(world: World) -> None:
    world("sh", "-c", "exit 7", code=7)
    world("sh", "-c", "kill -9 $$", code=137)
    assert "No such file" in world("no-such-program", code=127).stderr


def test_http_and_iperf3(world: World) -> None:
    page = world.http("hello")
    code = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    assert world.python(code, f"http://{page.address}:{page.port}/").text == "hello"
    port = world.iperf3()
    assert "receiver" in world("iperf3", "-c", world.server, "-p", port, "-t", "1").stdout
