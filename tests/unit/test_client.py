"""Talking to the network supervisor, against a socket of the test."""

from __future__ import annotations

import _socket
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from podpy import __main__
from podpy.errors import Conflict, HostError, PodpyError
from podpy.net import client, packets
from podpy.runtime import link


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A path that is longer than the address of a socket may be."""
    made = tmp_path / ("x" * 120)
    made.mkdir()
    return str(made)


@pytest.fixture
def listener(place: str) -> Iterator[_socket.socket]:
    made = client.listen(place)
    made.setblocking(False)
    yield made
    made.close()


def test_the_lock_has_one_holder(place: str) -> None:
    lock = client.take_lock(place)
    assert lock >= 0
    assert client.take_lock(place) == -1
    os.close(lock)
    again = client.take_lock(place)
    assert again >= 0
    os.close(again)


def test_a_socket_that_a_killed_supervisor_left_makes_way(place: str) -> None:
    client.listen(place).close()
    assert not client.is_running(place)
    listener = client.listen(place)
    assert client.is_running(place)
    listener.close()


@pytest.mark.parametrize(
    "error", [Conflict("address 10.1.0.2 is in use", hint="choose another"), HostError("no tun")]
)
def test_an_error_comes_back_as_it_was_raised(
    place: str, listener: _socket.socket, error: PodpyError
) -> None:
    talk = client.Conversation(place)
    talk.send({"do": "attach"})
    channel = client.accept(listener)
    assert packets.receive(channel) == ({"do": "attach"}, [])
    packets.send(channel, client.telling(error))
    with pytest.raises(type(error)) as raised:
        talk.receive()
    assert (raised.value.message, raised.value.hint) == (error.message, error.hint)
    talk.close()
    channel.close()


def test_errors_that_are_not_podpys() -> None:
    refused = OSError(errno.EPERM, "Operation not permitted")
    assert client.telling(refused) == {"error": "network: Operation not permitted"}
    assert client.telling(KeyError("x")) == {"error": "network: internal error: KeyError: 'x'"}


def test_where_none_answers_any_more_one_is_started(place: str, listener: _socket.socket) -> None:
    started: list[str] = []

    def start(where: str) -> None:
        started.append(where)
        raise HostError("cannot be started")

    talk = client.Conversation(place, start)
    listener.close()
    with pytest.raises(HostError, match="cannot be started"):
        talk.send({"do": "attach"})
        talk.receive()
    assert started == [place]
    talk.close()


def test_a_command_asks_nobody_where_nobody_is(place: str) -> None:
    client.reload(place)  # no supervisor, no containers: nothing to do, and none is started
    assert os.listdir(place) == []


def test_the_word_that_starts_one_is_known_to_the_entry_point() -> None:
    assert link.WORD == __main__.NETWORK_SUPERVISOR
