"""The process inside the shared network namespace: what it does there, and that it is replaced."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from podpy.errors import HostError
from podpy.kernel import process
from podpy.net.inner import Inner


@pytest.fixture
def inner() -> Iterator[Inner]:
    made = Inner.create()
    yield made
    made.close()


def namespace(inner: Inner) -> int:
    return os.stat(f"/proc/{inner.pid}/ns/net").st_ino


def test_sockets_are_of_the_namespace(inner: Inner) -> None:
    server = inner.open(socket.AF_INET, socket.SOCK_STREAM, bind=("127.0.0.1", 80), listen=1)
    client = inner.open(socket.AF_INET, socket.SOCK_STREAM)
    client.connect(("127.0.0.1", 80))
    client.close()
    server.close()
    with pytest.raises(OSError) as caught:
        inner.open(socket.AF_INET, socket.SOCK_STREAM, bind=("192.0.2.1", 80))
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_sysctls_and_programs(inner: Inner) -> None:
    inner.sysctl("ipv4/ip_forward", "1")
    assert inner.run(["/bin/cat", "/proc/sys/net/ipv4/ip_forward"]) == "1\n"
    with pytest.raises(HostError, match="status 1"):
        inner.run(["/bin/false"])


@pytest.mark.parametrize("signalled", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_one_is_replaced(inner: Inner, signalled: int) -> None:
    inner.sysctl("ipv4/ip_forward", "1")
    before, first = namespace(inner), inner.pid
    os.kill(first, signalled)
    assert inner.run(["/bin/cat", "/proc/sys/net/ipv4/ip_forward"]) == "1\n"
    assert inner.pid != first
    assert namespace(inner) == before, "the same namespace"
    assert process.start_time(first) == -1
    os.kill(inner.pid, signalled)
    os.waitid(os.P_PID, inner._pid, os.WEXITED | os.WNOWAIT)
    assert inner.pid != first
    assert os.fstat(inner.netns).st_ino == before == namespace(inner)


def test_nothing_is_left(inner: Inner) -> None:
    opened = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        os.kill(inner.pid, signal.SIGKILL)
        inner.sysctl("ipv4/ip_forward", "0")
    assert len(os.listdir("/proc/self/fd")) == opened


def test_what_it_leaves_can_be_entered(inner: Inner) -> None:
    other = Inner.enter(inner.netns)
    assert namespace(other) == namespace(inner)
    other.close()
