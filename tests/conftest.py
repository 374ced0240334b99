"""What every test can ask for.  ``tests/run.sh`` makes the host these fixtures expect.

``podpy``     a runner bound to a store of its own, which holds the busybox image;
              everything that the test leaves is a failure, and removed
``busybox``   the name of that image
``users_image``  busybox with users alice and bob, groups and files of theirs
``podman``    the peer, with the busybox image, in a store of its own
``registry``  a real registry (Debian's docker-registry) on a free loopback port
``world``     servers and clients on another network, see support/world.py
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import host, images, processes
from support.podman import Podman
from support.podpy import BUSYBOX, Podpy, clone_template, make_template
from support.registry import Registry
from support.world import World, made

TESTS = Path(__file__).parent
_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests that take minutes, too")
    parser.addoption("--record", action="store_true", help="record what the peer does, see there")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _select_part(config, items, os.environ.get("PODPY_TEST_PART", "all"))
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="long: runs with --long")
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(skip)


def _select_part(config: pytest.Config, items: list[pytest.Item], part: str) -> None:
    """Tests of the Internet run apart from the others: the world that run.sh makes has none."""
    if part == "all":
        return
    chosen: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        outside = item.get_closest_marker("internet") is not None
        (chosen if outside == (part == "internet") else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = chosen


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        host.require(*marker.args)


def pytest_configure() -> None:
    """What was started in the background of a script has SIGINT ignored, and its children too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish() -> None:
    """Adopted children end here: not every container's or CI's pid 1 collects zombies."""
    processes.reap()


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """A short-named directory for this worker's stores (``sun_path`` holds 108 bytes)."""
    directory = Path(tempfile.mkdtemp(prefix="podpy-", dir=os.environ.get("PODPY_TEST_BASE")))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def cgroup() -> Iterator[host.OwnCgroup]:
    """This worker's part of the cgroups that run.sh delegated."""
    own = host.OwnCgroup(os.environ.get("PYTEST_XDIST_WORKER", "main"))
    yield own
    own.close()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all workers of this run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def template(shared: Path) -> Path:
    """The store that every test's store is copied from; made by the first worker to come."""
    directory = shared / "template"
    with (shared / "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            directory.mkdir(mode=0o700)
            try:
                make_template(directory)
            except AssertionError as error:
                (directory / "failed").write_text(str(error))
    if (directory / "failed").exists():
        pytest.fail("no test image: " + (directory / "failed").read_text(), pytrace=False)
    return directory


@pytest.fixture
def watch() -> Iterator[processes.Watch]:
    """Knows which processes this test started."""
    watch = processes.Watch()
    yield watch
    watch.kill()


@pytest.fixture
def directory(base: Path) -> Path:
    """An empty directory with a short path, for this test."""
    path = base / str(next(_numbers))
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def empty_podpy(directory: Path, watch: processes.Watch, cgroup: host.OwnCgroup) -> Iterator[Podpy]:
    """podpy with a store that does not exist before its first command."""
    host.require("newuidmap", "subids")
    runner = Podpy(directory, cgroup)
    yield runner
    runner.clean_up(watch)


@pytest.fixture
def podpy(
    directory: Path, template: Path, watch: processes.Watch, cgroup: host.OwnCgroup
) -> Iterator[Podpy]:
    """podpy with a store of its own that holds the busybox image."""
    host.require("newuidmap", "subids")
    clone_template(template, directory)
    runner = Podpy(directory, cgroup)
    yield runner
    runner.clean_up(watch)


@pytest.fixture
def busybox(podpy: Podpy) -> str:
    return BUSYBOX


@pytest.fixture
def users_image(podpy: Podpy) -> str:
    return podpy.load_layers("localhost/users:latest", images.users_layer())


@pytest.fixture(scope="session")
def podman_session(base: Path, cgroup: host.OwnCgroup) -> Iterator[Podman]:
    host.require("podman", "conmon", "newuidmap", "subids")
    directory = base / "podman"
    directory.mkdir(mode=0o700)
    processes.become_subreaper()
    runner = Podman(directory)
    runner.load_busybox()
    yield runner
    runner.close()


@pytest.fixture
def podman(podman_session: Podman) -> Iterator[Podman]:
    """The peer; its containers are removed after each test."""
    yield podman_session
    podman_session.end_background()
    podman_session("rm", "-f", "-a", "-t", "0", code=None)


@pytest.fixture
def world(watch: processes.Watch) -> Iterator[World]:
    yield from made(watch)


@pytest.fixture(scope="session")
def registry(base: Path) -> Iterator[Registry]:
    """A registry without authentication; tests keep apart by their repository names."""
    host.require("docker-registry")
    server = Registry(base / "registry")
    yield server
    server.close()
