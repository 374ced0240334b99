"""Our D-Bus messages against the reference implementation, and a manager's answers read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from podpy.errors import HostError
from podpy.kernel import dbus, systemd
from support.bus import Manager, private_bus, user_manager

DRIVER = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with private_bus() as found:
        yield found


@pytest.fixture
def manager(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    with user_manager(address) as found:
        yield found


@pytest.mark.parametrize(
    ("signature", "types"),
    [("", []), ("s", ["s"]), ("ssa(sv)a(sa(sv))", ["s", "s", "a(sv)", "a(sa(sv))"]),
     ("aa{sv}(i(ss))u", ["aa{sv}", "(i(ss))", "u"])],
)  # fmt: skip
def test_signatures_fall_into_types(signature: str, types: list[str]) -> None:
    assert dbus.split_signature(signature) == types


def test_an_open_struct_is_refused() -> None:
    with pytest.raises(ValueError, match="not closed"):
        dbus.split_signature("a(sv")


def test_bytes_are_those_of_the_specification() -> None:
    """The example of the specification: an array of three 64-bit integers is padded to 8."""
    assert bytes(dbus.encode("ax", ([1],))) == (b"\x08\0\0\0" + b"\0\0\0\0" + b"\x01\0\0\0\0\0\0\0")
    assert bytes(dbus.encode("ys", (1, "foo"))) == b"\x01\0\0\0\x03\0\0\0foo\0"
    assert bytes(dbus.encode("v", (("u", 7),))) == b"\x01u\0\0\x07\0\0\0"


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("ybnqiuxtd", (255, True, -2, 3, -4, 5, -6, 7, 0.5)),
        ("sog", ("Grüße", "/a/b", "a(sv)")),
        ("as", ([],)),
        ("a(ii)", ([(1, 2), (3, 4)],)),
        ("ya{su}", (1, [("x", 1), ("yy", 2)])),
    ],
)
def test_what_was_written_is_read(signature: str, values: tuple[object, ...]) -> None:
    data = bytes(dbus.encode(signature, values))
    assert dbus.Reader(data).values(signature) == values


def test_the_bus_lists_us(address: str) -> None:
    with dbus.Bus(address) as bus:
        (names,) = bus.reply(bus.call(*DRIVER, "ListNames"))
        (owner,) = bus.reply(bus.call(*DRIVER, "GetNameOwner", "s", "org.freedesktop.DBus"))
    assert "org.freedesktop.DBus" in names
    assert owner == "org.freedesktop.DBus"


def test_answers_may_be_read_in_any_order(address: str) -> None:
    with dbus.Bus(address) as bus:
        first = bus.call(*DRIVER, "GetId")
        second = bus.call(*DRIVER, "GetConnectionUnixUser", "s", "org.freedesktop.DBus")
        assert bus.reply(second) == (os.getuid(),)
        assert len(bus.reply(first)[0]) == 32


def test_an_error_has_its_name(address: str) -> None:
    with dbus.Bus(address) as bus, pytest.raises(dbus.BusError) as caught:
        bus.reply(bus.call(*DRIVER, "GetNameOwner", "s", "no.such.name"))
    assert caught.value.name == "org.freedesktop.DBus.Error.NameHasNoOwner"


def test_a_silent_bus_is_given_up(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "bus"))
        server.listen()
        bus = dbus.Bus(f"unix:path={tmp_path}/bus", timeout=0.1)
        with bus, pytest.raises(HostError, match="in time"):
            bus.reply(1)


@pytest.mark.parametrize("address", ["", "tcp:host=localhost", "unix:path=/nonexistent/bus"])
def test_no_bus_is_told(address: str) -> None:
    with pytest.raises(HostError, match="cannot be reached"):
        dbus.Bus(address)


def test_addresses_are_unescaped(tmp_path: Path) -> None:
    import socket

    (tmp_path / "a b").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "a b" / "bus"))
        server.listen()
        first = "unix:path=/nonexistent/bus"
        dbus.Bus(f"{first};unix:path={tmp_path}/a%20b/bus,guid=00").close()


def test_a_scope_is_asked_for_as_systemd_wants_it(manager: Manager) -> None:
    systemd.start_scope("a.scope", [1, 2], description="an ä").wait()
    call, name, mode, properties, auxiliary = manager.next_call()
    assert (call, name, mode, auxiliary) == ("StartTransientUnit", "a.scope", "fail", [])
    assert properties == {
        "Description": "an ä", "PIDs": [1, 2], "Delegate": True,
        "CollectMode": "inactive-or-failed",
    }  # fmt: skip


def test_a_slice_is_named(manager: Manager) -> None:
    systemd.start_scope("b.scope", [1], description="b", slice_name="my.slice").wait()
    assert manager.next_call()[3]["Slice"] == "my.slice"


def test_a_failed_job_is_an_error(manager: Manager) -> None:
    with pytest.raises(HostError, match=r"refused\.scope: failed"):
        systemd.start_scope("refused.scope", [1], description="c").wait()


def test_a_refused_call_is_an_error(manager: Manager) -> None:
    with pytest.raises(dbus.BusError, match="Forbidden"):
        systemd.start_scope("forbidden.scope", [1], description="d").wait()


def test_processes_are_attached(manager: Manager) -> None:
    systemd.attach("a.scope", "/ctr", [7, 8])
    assert manager.next_call() == ["AttachProcessesToUnit", "a.scope", "/ctr", [7, 8]]


def test_without_systemd_there_is_nothing_to_warn_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(systemd, "BOOTED", str(tmp_path / "none"))
    assert systemd.linger_warning("u") == ""


def test_lingering_silences_the_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(systemd, "BOOTED", str(tmp_path))
    monkeypatch.setattr(systemd, "LINGER", str(tmp_path))
    assert "loginctl enable-linger u" in systemd.linger_warning("u")
    (tmp_path / "u").touch()
    assert systemd.linger_warning("u") == ""
