"""One clear error for each thing that goes wrong, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import host, images, processes
from support.fake_registry import FakeRegistry
from support.podpy import BUSYBOX, Podpy
from support.polling import eventually


def nothing_is_left(podpy: Podpy) -> None:
    assert podpy("ps", "-a", "-q").text == ""
    assert podpy.containers() == []
    assert podpy.staging() == []


def test_two_same_names(podpy: Podpy, busybox: str) -> None:
    first = podpy("create", "--name", "twin", busybox).text
    done = podpy.fails("create", "--name", "twin", busybox)
    assert "twin" in done.stderr
    assert "already in use" in done.stderr
    assert podpy("ps", "-a", "-q", "--no-trunc").lines == [first]


def test_two_same_names_at_the_same_moment(podpy: Podpy, busybox: str) -> None:
    racers = [podpy.start("create", "--name", "twin", busybox, stdin=None) for _ in range(6)]
    codes = sorted(racer.wait().code for racer in racers)
    assert codes == [0, 125, 125, 125, 125, 125]
    assert len(podpy("ps", "-a", "-q").lines) == 1


def test_an_ambiguous_prefix(podpy: Podpy, busybox: str) -> None:
    made = [podpy("create", busybox).text for _ in range(17)]  # 16 digits: two must agree
    first = next(each[0] for each in made if sum(other[0] == each[0] for other in made) > 1)
    done = podpy.fails("start", first)
    assert first in done.stderr


def test_a_missing_image(podpy: Podpy) -> None:
    done = podpy.fails("run", "--pull", "never", "localhost/nowhere:1")
    assert "localhost/nowhere:1" in done.stderr
    nothing_is_left(podpy)


def test_a_missing_container(podpy: Podpy) -> None:
    for verb in ("start", "stop", "kill", "logs", "inspect", "exec"):
        rest = ["true"] if verb == "exec" else []
        done = podpy(verb, "nobody", *rest, code=None)
        assert done.code == 125, f"{verb}: {done}"
        assert "nobody" in done.stderr, f"{verb}: {done.stderr}"
        assert "no such" in done.stderr.lower(), f"{verb}: {done.stderr}"


def test_a_used_port(podpy: Podpy, busybox: str) -> None:
    host.require("slirp4netns", "/dev/net/tun")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = podpy.fails("run", "--rm", "-p", f"127.0.0.1:{port}:80", busybox, "true")
    assert str(port) in done.stderr
    nothing_is_left(podpy)


def test_a_port_of_another_container(podpy: Podpy, busybox: str) -> None:
    host.require("slirp4netns", "/dev/net/tun")
    podpy.run_detached("--name", "first", "-p", "127.0.0.1::80", busybox, "sleep", "1000")
    port = podpy("port", "first", "80").text.rpartition(":")[2]
    done = podpy.fails("run", "--rm", "-p", f"127.0.0.1:{port}:80", busybox, "true")
    assert port in done.stderr
    assert podpy("ps", "-a", "--format", "{{.Names}}").lines == ["first"]


@pytest.mark.parametrize("helper", ["slirp4netns", "pasta"])
@pytest.mark.parametrize(
    "script",
    ["#!/nonexistent/interpreter\n", "#!/bin/sh\necho the helper is broken >&2\nexit 3\n"],
    ids=["cannot be executed", "fails"],
)
def test_a_broken_network_helper(podpy: Podpy, busybox: str, helper: str, script: str) -> None:
    """The first one on the path is taken, and its failure is told in its own words."""
    broken = podpy.directory / "bin" / helper
    broken.parent.mkdir()
    broken.write_text(script)
    broken.chmod(0o755)
    path = f"{broken.parent}:{podpy.env['PATH']}"
    done = podpy.fails("run", "--rm", "--network", helper, busybox, "true", env={"PATH": path})
    assert helper in done.stderr
    assert "broken" in done.stderr or "exit 3" not in script
    nothing_is_left(podpy)


@pytest.fixture
def small(directory: Path, watch: processes.Watch, cgroup: host.OwnCgroup) -> Iterator[Podpy]:
    """podpy with its store on a file system of 24 MB."""
    given = os.environ.get("PODPY_TEST_SMALL", "")
    if not given:
        if host.STRICT:
            pytest.fail("tests/run.sh must mount a small file system for this test")
        pytest.skip("needs a small file system, which tests/run.sh mounts as root")
    place = Path(given) / f"store-{os.getpid()}"
    place.mkdir()
    runner = Podpy(directory, cgroup)
    (directory / "data").symlink_to(place)
    yield runner
    runner.clean_up(watch)
    shutil.rmtree(place, ignore_errors=True)


def filled(store: Path, leave: int) -> Path:
    """Fill the file system up to ``leave`` bytes."""
    state = os.statvfs(store)
    filler = store / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, state.f_bavail * state.f_frsize - leave))
    return filler


def test_load_on_a_full_disk(small: Podpy) -> None:
    archive = images.docker_archive(
        small.directory / "b.tar", BUSYBOX, layers=[images.busybox_layer()]
    )
    filler = filled(small.directory / "data", leave=1_500_000)
    done = small.fails("load", "-i", archive)
    assert "no space left" in done.stderr.lower()
    assert small.staging() == []
    assert small("images", "-q").text == ""
    filler.unlink()
    small("load", "-q", "-i", archive)
    assert small("run", "--rm", "--network", "none", BUSYBOX, "echo", "fine").text == "fine"


def test_pull_on_a_full_disk(small: Podpy) -> None:
    server = FakeRegistry()
    try:
        server.image("big", "1", images.Layer().file("noise", os.urandom(3 << 20)))
        name = f"{server.address}/big:1"
        small("pull", "-q", "--tls-verify=false", name)
        small("rmi", name)
        filler = filled(small.directory / "data", leave=2_000_000)
        done = small.fails("pull", "-q", "--tls-verify=false", name)
        assert "No space left" in done.stderr
        assert small.staging() == []
        assert not list((small.directory / "cache/podpy/downloads").glob("*"))
        filler.unlink()
        small("pull", "-q", "--tls-verify=false", name)
    finally:
        server.close()


def test_create_on_a_full_disk(small: Podpy) -> None:
    archive = images.docker_archive(
        small.directory / "b.tar", BUSYBOX, layers=[images.busybox_layer()]
    )
    small("load", "-q", "-i", archive)
    filler = filled(small.directory / "data", leave=0)
    done = small.fails("run", "--rm", "--name", "full", "--network", "none", BUSYBOX, "true")
    assert "no space left" in done.stderr.lower()
    nothing_is_left(small)
    small("ps", "-a")
    filler.unlink()
    assert small("run", "--name", "full", "--network", "none", BUSYBOX, "echo", "x").text == "x"


def test_a_damaged_record_is_named_and_can_be_removed(podpy: Podpy, busybox: str) -> None:
    whole = podpy("create", "--name", "whole", busybox).text
    broken = podpy("create", "--name", "broken", busybox).text
    record = podpy.store / "containers" / broken / "container.json"
    record.write_text(record.read_text()[:40])
    listed = podpy("ps", "-a", "-q", "--no-trunc", code=None)
    assert whole in listed.stdout
    assert "Traceback" not in listed.stderr
    assert podpy("ps", "-a", "-f", "name=broken", "--format", "{{.Status}}").text == "Damaged"
    assert "rm -f broken" in podpy.fails("start", "broken").stderr
    podpy("rm", "-f", "broken")
    assert podpy.containers() == [whole]


@pytest.mark.parametrize("file", ["container.json", "state.json"])
@pytest.mark.parametrize("text", ['{"x', "[]", '{"version": 1}'])
def test_a_live_container_of_damaged_records_goes_by_force_only(
    podpy: Podpy, busybox: str, file: str, text: str
) -> None:
    made = podpy("run", "-d", "--name", "broken", "--network", "none", busybox, "sleep", "1000")
    directory = podpy.store / "containers" / made.text
    init = json.loads((directory / "state.json").read_text())["init"]["pid"]
    (directory / file).write_text(text)
    assert podpy("ps", "-a", "--format", "{{.Names}} {{.Status}}").text == "broken Damaged"
    podpy("container", "prune", "-f", code=None)
    podpy.fails("rm", "broken")
    assert directory.is_dir()
    assert Path(f"/proc/{init}").exists()
    podpy("rm", "-f", "broken")
    assert not directory.exists()
    eventually(lambda: not Path(f"/proc/{init}").exists())


def test_what_a_damaged_container_may_use_stays(podpy: Podpy, busybox: str) -> None:
    made = podpy(
        "run", "-d", "--name", "broken", "--network", "none", "-v", "data:/data", busybox,
        "sleep", "1000",
    ).text  # fmt: skip
    record = podpy.store / "containers" / made / "container.json"
    whole = record.read_text()
    record.write_text(whole.replace('"version":1', '"version":99', 1))
    assert "rm -f broken" in podpy.fails("volume", "prune", "-a", "-f").stderr
    assert "rm -f broken" in podpy.fails("volume", "rm", "data").stderr
    podpy("rmi", "-f", busybox)
    record.write_text(whole)
    assert podpy("exec", "broken", "ls", "/bin/busybox").text == "/bin/busybox"
    assert podpy("volume", "ls", "-q").text == "data"
    podpy("rm", "-f", "broken")
    podpy("volume", "rm", "data")


DAMAGED = ['{"x', "[]", '{"version": 1}', '{"version": 1, "reference": 5, "manifest": 7}', ""]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_name_goes_as_its_hint_says(podpy: Podpy, busybox: str, text: str) -> None:
    podpy("tag", busybox, "localhost/victim:1")
    (path,) = (podpy.store / "names").glob("*victim*")
    path.write_text(text)
    for words in (["images"], ["image", "prune", "-f"], ["tag", busybox, "localhost/more:1"]):
        assert "`podpy rmi -f localhost/victim:1`" in podpy.fails(*words).stderr
    podpy.fails("rmi", "localhost/victim:1")
    assert path.exists()
    podpy("rmi", "-f", "localhost/victim:1")
    assert not path.exists()
    podpy("run", "--rm", "--network", "none", busybox, "true")
    assert "victim" not in podpy("images").text


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_volume_is_listed_and_can_be_removed(podpy: Podpy, text: str) -> None:
    podpy("volume", "create", "broken")
    podpy("volume", "create", "whole")
    (podpy.store / "volumes/broken/volume.json").write_text(text)
    assert podpy("volume", "ls", "-q").lines == ["broken", "whole"]
    podpy("volume", "prune", "-f")
    shown = podpy.fails("volume", "inspect", "broken", code=None)
    assert "`podpy volume rm broken`" in shown.stderr
    podpy("volume", "rm", "broken")
    assert podpy("volume", "ls", "-q").text == "whole"
