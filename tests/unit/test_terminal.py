"""Detach keys, raw mode, window sizes, and the relay between two terminals."""

from __future__ import annotations

import os
import pty
import termios

import pytest

from podpy.errors import UsageError
from podpy.kernel import process
from podpy.runtime import terminal
from podpy.runtime.terminal import DetachKeys, RawMode, parse_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b""),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-a", b"\x01"),
        ("CTRL-Z", b"\x1a"),
        ("a,b,C", b"abC"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
    ],
)
def test_keys(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ctrl-pq", "ab", "a,,b", ",", "ü"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(UsageError, match="invalid detach keys"):
        parse_keys(text)


def feed(keys: str, *typed: bytes) -> tuple[bytes, bool]:
    parser = DetachKeys(keys)
    passed = b""
    for piece in typed:
        more, detached = parser.feed(piece)
        passed += more
        if detached:
            return passed, True
    return passed, False


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ((b"ls\r",), b"ls\r", False),
        ((b"\x10\x11",), b"", True),
        ((b"x\x10", b"\x11y"), b"x", True),
        ((b"\x10", b"x"), b"\x10x", False),
        ((b"\x10", b"\x10", b"\x11"), b"\x10", True),
        ((b"\x11\x10",), b"\x11", False),
        ((b"\x10", b"a\x10", b"\x11"), b"\x10a", True),
    ],
)
def test_sequence_in_pieces(typed: tuple[bytes, ...], passed: bytes, detached: bool) -> None:
    assert feed("ctrl-p,ctrl-q", *typed) == (passed, detached)


def test_no_keys_pass_everything() -> None:
    assert feed("", b"\x10\x11", b"x") == (b"\x10\x11x", False)


def test_raw_mode_is_undone_even_by_an_exception() -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    with pytest.raises(KeyboardInterrupt), RawMode(slave):
        assert not termios.tcgetattr(slave)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        raise KeyboardInterrupt
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_window_size_of_a_terminal_and_of_none() -> None:
    master, slave = pty.openpty()
    terminal.set_window_size(master, 33, 99)
    assert terminal.window_size(slave) == (33, 99)
    reader, writer = os.pipe()
    assert terminal.window_size(reader) == (0, 0)
    for fd in (master, slave, reader, writer):
        os.close(fd)


def shell(script: str) -> tuple[int, int]:
    """A shell on a new terminal: its pid and the master."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh", "-c", script])
    return pid, master


def test_relay_ends_with_the_terminal() -> None:
    pid, master = shell("read line; echo got $line; exit 3")
    typed, keyboard = os.pipe()
    shown, screen = os.pipe()
    os.write(keyboard, b"hello\n")
    assert terminal.relay(master, typed, screen) is False
    assert process.wait(pid) == 3
    assert b"got hello" in os.read(shown, 1000)
    for fd in (master, typed, keyboard, shown, screen):
        os.close(fd)


def test_relay_detaches() -> None:
    pid, master = shell("read line")
    typed, keyboard = os.pipe()
    os.write(keyboard, b"abc\x10\x11def")
    null = os.open("/dev/null", os.O_WRONLY)
    assert terminal.relay(master, typed, null) is True
    os.close(master)
    process.wait(pid)
    for fd in (typed, keyboard, null):
        os.close(fd)


def test_relay_ends_with_the_child_though_the_terminal_stays_open() -> None:
    pid, master = shell("trap '' HUP; sleep 60 & echo $!; exit 4")
    child = os.pidfd_open(pid)
    shown, screen = os.pipe()
    terminal.relay(master, -1, screen, child=child)
    assert process.wait(pid) == 4
    sleeper = int(os.read(shown, 100))
    os.kill(sleeper, 9)
    for fd in (master, child, shown, screen):
        os.close(fd)
