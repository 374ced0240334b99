"""The channel between the processes that start a container."""

from __future__ import annotations

import os

import pytest

from podpy import errors
from podpy.runtime import channel
from podpy.runtime.channel import Channel


def test_messages_that_cross_are_kept() -> None:
    """M and I share one end, and the scheduler may let I speak first."""
    ours, theirs = Channel.pair()
    with ours, theirs:
        theirs.send(channel.READY, "/root")
        theirs.send(channel.FORKED, 7)
        assert ours.expect(channel.FORKED) == ["7"]
        assert ours.expect(channel.READY) == ["/root"]


def test_a_failure_raises_what_was_raised_there() -> None:
    ours, theirs = Channel.pair()
    with ours, theirs:
        theirs.fail("execute", errors.CommandNotFound("no such thing", hint="install it"))
        with pytest.raises(errors.CommandNotFound, match="no such thing") as caught:
            ours.expect(channel.FORKED)
    assert caught.value.hint == "install it"
    assert caught.value.exit_code == 127


def test_a_failure_of_the_kernel_names_step_and_path() -> None:
    ours, theirs = Channel.pair()
    with ours, theirs:
        theirs.fail("mount /proc", PermissionError(1, "Operation not permitted", "/proc"))
        with pytest.raises(
            errors.LaunchError, match=r"mount /proc: /proc: Operation not permitted"
        ):
            ours.expect(channel.READY)


def test_the_end_is_an_error_that_says_what_was_missing() -> None:
    ours, theirs = Channel.pair()
    theirs.close()
    with ours, pytest.raises(errors.LaunchError, match="ready was expected"):
        ours.expect(channel.READY)


def test_descriptors_travel() -> None:
    ours, theirs = Channel.pair()
    reading, writing = os.pipe()
    with ours, theirs:
        theirs.send(channel.PTY, fds=(writing,))
        os.close(writing)
        received = ours.expect_descriptor(channel.PTY)
    os.write(received, b"x")
    os.close(received)
    assert os.read(reading, 2) == b"x"
    os.close(reading)


def test_the_death_of_the_one_who_was_to_speak_is_heard_beside_others() -> None:
    """M may be killed between forking I and saying so, and I holds the same end."""
    ours, theirs = Channel.pair()
    pid = os.fork()
    if not pid:
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    with ours, theirs:
        theirs.send(channel.READY)
        with pytest.raises(errors.LaunchError, match="forked was expected"):
            ours.expect(channel.FORKED, sender=pidfd)
    os.close(pidfd)
    os.waitpid(pid, 0)


def test_what_the_dead_had_said_counts() -> None:
    ours, theirs = Channel.pair()
    pid = os.fork()
    if not pid:
        theirs.send(channel.FORKED, 7)
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    with ours, theirs:
        assert ours.expect(channel.FORKED, sender=pidfd) == ["7"]
    os.close(pidfd)
    os.waitpid(pid, 0)
