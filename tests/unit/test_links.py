"""``--link``: what a container is told of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from podpy.engine import links
from podpy.errors import NotFound, StateError
from podpy.kernel import process
from podpy.model import ContainerRecord, ContainerState, LogConfig, Status, UserNamespace
from podpy.netmodel import Attachment, Endpoint, NetworkMode, PortMapping
from podpy.paths import Store
from podpy.records import to_dict
from podpy.storage import containers

DB, WEB = "db" * 32, "eb" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "root"), str(tmp_path / "run"))
    made.prepare()
    return made


def record(**values: Any) -> ContainerRecord:
    given: dict[str, Any] = {
        "id": WEB, "name": "web", "created": 1.0, "argv": ("x",), "user_namespace": UserNamespace(),
        "log": LogConfig(), "network": NetworkMode(kind="bridge"), "links": ("db:store",),
        "networks": (Attachment(network="front"), Attachment(network="back")), **values,
    }  # fmt: skip
    return ContainerRecord(**given)


def a_database(store: Store, *, running: bool = True, network: str = "back", **values: Any) -> None:
    given: dict[str, Any] = {
        "id": DB, "name": "db", "hostname": "dbhost", "links": (),
        "networks": (Attachment(network=network),), **values,
    }  # fmt: skip
    containers.create(store, record(**given), lambda _: None)
    if not running:
        return
    endpoint = Endpoint(network=network, address="10.1.0.5", address6="fd00::5")
    state = ContainerState(
        status=Status.RUNNING, init=process.identity(), supervisor=process.identity(),
        networks=(endpoint,),
    )  # fmt: skip
    from podpy import files

    files.write_json(f"{store.container(DB)}/state.json", to_dict(state))


def test_hosts_lines(store: Store) -> None:
    a_database(store)
    names = ("store", DB[:12], "dbhost", "db")
    assert links.host_lines(store, record()) == [("10.1.0.5", names), ("fd00::5", names)]


def test_variables(store: Store) -> None:
    a_database(
        store,
        ports=(PortMapping(container_port=80, host_port=8080),),
        exposed_ports=("5432/tcp", "53/udp", "80/tcp"),
        env=("PASSWORD=secret=1", "PATH=/bin", "HOME=/", "HOSTNAME=x", "container=podpy"),
    )
    env = links.effective(store, record(env=("A=b",), links=("db:my-store",))).env
    assert env == (
        "MY_STORE_NAME=/web/my-store",
        "MY_STORE_PORT=udp://10.1.0.5:53",
        *_port("MY_STORE_PORT_53_UDP", "udp", 53),
        *_port("MY_STORE_PORT_80_TCP", "tcp", 80),
        *_port("MY_STORE_PORT_5432_TCP", "tcp", 5432),
        "MY_STORE_ENV_PASSWORD=secret=1",
        "A=b",
    )


def _port(key: str, protocol: str, port: int) -> tuple[str, ...]:
    return (
        f"{key}={protocol}://10.1.0.5:{port}", f"{key}_ADDR=10.1.0.5", f"{key}_PORT={port}",
        f"{key}_PROTO={protocol}",
    )  # fmt: skip


def test_neighbouring_ports_are_a_range_as_well(store: Store) -> None:
    a_database(store, exposed_ports=("80/tcp", "81/tcp", "82/tcp", "81/udp", "90/tcp"))
    env = links.effective(store, record()).env
    ends = [text for text in env if "_START" in text or "_END" in text]
    assert ends == [
        "STORE_PORT_80_TCP_START=tcp://10.1.0.5:80",
        "STORE_PORT_80_TCP_PORT_START=80",
        "STORE_PORT_80_TCP_END=tcp://10.1.0.5:82",
        "STORE_PORT_80_TCP_PORT_END=82",
    ]


def test_what_the_container_sets_itself_stays(store: Store) -> None:
    a_database(store, exposed_ports=("80/tcp",))
    env = links.effective(store, record(env=("STORE_PORT=mine",))).env
    assert [text for text in env if text.startswith("STORE_PORT=")] == ["STORE_PORT=mine"]


def test_the_other_must_run(store: Store) -> None:
    a_database(store, running=False)
    with pytest.raises(StateError, match="cannot link to a non running container: /db AS /web/"):
        links.effective(store, record())
    assert links.host_lines(store, record()) == []


def test_the_other_must_be_there(store: Store) -> None:
    with pytest.raises(NotFound, match="no such container"):
        links.effective(store, record())


def test_the_other_must_be_on_a_network_of_ours(store: Store) -> None:
    a_database(store, network="elsewhere")
    with pytest.raises(StateError, match="does not belong to the network front, back"):
        links.effective(store, record())
