"""RUN against hostile Dockerfiles, images and neighbours: one test per incident."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
from pathlib import Path

import pytest

from support import processes
from support.builds import Builds
from support.command import Background
from support.podpy import BUSYBOX, Podpy
from support.polling import eventually

SENTINEL = "only-for-the-host-57cd"
#: A stage whose /up and /etc lead to what the host would have there.
LINKS = (
    f"FROM {BUSYBOX} AS links\n"
    "RUN mkdir /data && ln -s / /data/root && ln -s ../../../../../.. /data/far"
    " && ln -s /proc/1/root /data/magic && ln -s / /up\n"
)


@pytest.fixture
def build(podpy: Podpy) -> Builds:
    return Builds(podpy)


@pytest.fixture
def secret(podpy: Podpy) -> Path:
    """A file beside the context, with the host's root as the only way to it."""
    path = podpy.directory / "host-only"
    path.write_text(SENTINEL)
    return path


# --- sources of mounts -------------------------------------------------------


@pytest.mark.parametrize("source", ["/up", "/data/root", "/data/far", "/data/far/up"])
def test_cve_2024_1753_a_stages_link_to_the_root_leads_to_the_stages_root(
    build: Builds, secret: Path, source: str
) -> None:
    made = build(
        f"{LINKS}FROM {BUSYBOX}\n"
        f"RUN --mount=type=bind,from=links,source={source},target=/m,rw"
        f" ls -d /m/data && ls /m{secret} 2>/dev/null; echo x > /m/written\n"
    )
    assert made.said == ["/m/data"]
    assert not Path("/written").exists()


def test_cve_2024_1753_a_magic_link_as_source_is_not_followed(build: Builds) -> None:
    made = build(
        f"{LINKS}FROM {BUSYBOX}\n"
        "RUN --mount=type=bind,from=links,source=/data/magic,target=/m ls /m\n",
        code=125,
    )
    assert made.said == []


@pytest.mark.parametrize("target", ["/up/etc", "/data/far/etc", "/data/root/etc"])
def test_a_target_behind_links_of_the_image_stays_in_its_root(build: Builds, target: str) -> None:
    before = sorted(os.listdir("/etc"))
    made = build(
        f"{LINKS}FROM links\nRUN --mount=type=tmpfs,target={target} ls /etc | grep -v -e hosts"
        " -e resolv.conf -e hostname; mount | grep -c ' /etc type tmpfs'\n"
    )
    assert made.said == ["1"]
    assert sorted(os.listdir("/etc")) == before


def test_cve_2024_9407_options_are_those_of_the_language(build: Builds) -> None:
    for option in ("bind-propagation=rshared", "bind-propagation=z,rw", "U", "suid", "dev"):
        made = build(f"RUN --mount=type=bind,target=/m,{option} true\n", code=125)
        assert "unknown key" in made.error, option
    made = build("RUN --mount=target=/m,rw grep ' /m ' /proc/self/mountinfo\n")
    assert " rw,nosuid,nodev" in made.text
    assert "shared:" not in made.text
    assert "master:" not in made.text


def test_cve_2024_9675_a_cache_id_is_a_name_and_no_path(build: Builds, podpy: Podpy) -> None:
    outside = podpy.directory / "cache" / "podpy" / "x"
    for identity in ("../../x", "../../../../../../etc", "/etc", "a/../../../x"):
        made = build(
            f"RUN --mount=type=cache,target=/c,id={identity} ls /c;"
            f" echo made > /c/{len(identity)}\n"
        )
        assert made.said == []
        name = hashlib.sha256(identity.encode()).hexdigest()
        kept = podpy.directory / "cache" / "podpy" / "build" / "mounts" / name / "data"
        assert (kept / str(len(identity))).read_text() == "made\n"
    assert not outside.exists()


def test_cve_2024_9675_a_caches_source_stays_in_its_stage(build: Builds, secret: Path) -> None:
    made = build(
        f"{LINKS}FROM {BUSYBOX}\n"
        f"RUN --mount=type=cache,target=/c,from=links,source=/data/far"
        f" ls -d /c/data /c{secret} 2>/dev/null\n",
        code=None,
    )
    assert made.said == ["/c/data"]


def test_cve_2024_11218_a_link_swapped_by_a_parallel_stage(build: Builds, secret: Path) -> None:
    """Two stages at once with one cache: one swaps a directory for a link, one mounts it."""
    cache = "--mount=type=cache,target=/c,id=race"
    swap = (
        "i=0; while [ $i -lt 300 ]; do mkdir -p /c/d; rm -rf /c/d; ln -s / /c/d; rm /c/d;"
        " i=$((i+1)); done"
    )
    reading = "".join(
        f"RUN {cache} {cache.replace('/c,', '/c/d,').replace('race', 'inner')}"
        f" ls /c/d{secret} 2>/dev/null; ls / | grep -x host-root; : {n}\n"
        for n in range(6)
    )
    made = build(
        f"FROM {BUSYBOX} AS one\nRUN {cache} {swap}\nFROM {BUSYBOX} AS two\n{reading}"
        "FROM scratch\nCOPY --from=one /etc /a\nCOPY --from=two /etc /b\n",
        "--jobs", "2",
        code=None,
    )  # fmt: skip
    assert SENTINEL not in made.stderr
    assert str(secret) not in made.text
    # A step may fail when its target is not a directory just then; it never leaves its root.
    assert "internal error" not in made.stderr


def test_a_contexts_links_lead_nowhere_else(build: Builds, secret: Path) -> None:
    (build.context / "out").symlink_to(secret)
    (build.context / "up").symlink_to("../..")
    for source in ("out", "up/host-only"):
        made = build(f"RUN --mount=source={source},target=/m cat /m\n", code=None)
        assert made.done.code
        assert SENTINEL not in made.stderr
    made = build("RUN --mount=target=/m cat /m/out /m/up/host-only 2>&1 || true\n")
    assert SENTINEL not in made.stderr


# --- what a command can do ---------------------------------------------------


@pytest.mark.parametrize("number", [3, 5, 7, 9, 12, 20])
def test_cve_2024_21626_a_working_directory_behind_a_descriptor(build: Builds, number: int) -> None:
    made = build(
        f"WORKDIR /proc/self/fd/{number}\nRUN ls -la . && cat ../../../../etc/hostname\n", code=None
    )
    assert made.done.code
    assert made.said == []


def test_cve_2022_29162_no_inheritable_and_no_ambient_capabilities(
    build: Builds, users_image: str
) -> None:
    made = build(
        f"FROM {users_image}\nRUN grep -E 'Cap(Inh|Amb)' /proc/self/status\n"
        "USER alice\nRUN grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status; id -G\n",
        "--cap-add", "net_admin",
    )  # fmt: skip
    values = {line.split()[1] for line in made.said[:-1]}
    assert values == {"0" * 16}
    assert made.said[-1] == "1000 10 29"


def test_cve_2021_3602_the_hosts_environment_does_not_leak(build: Builds, podpy: Podpy) -> None:
    podpy.env["LEAK"] = SENTINEL
    podpy.env["SSH_AUTH_SOCK"] = f"/{SENTINEL}"
    made = build(
        "ARG LEAK\nRUN env; cat /proc/*/environ | tr '\\0' '\\n'; ls -la /proc/self/fd\n"
        "ENV OTHER=$LEAK\n"
    )
    assert SENTINEL not in made.stderr
    assert SENTINEL not in str(made.config())
    assert SENTINEL not in podpy("image", "inspect", made.image).stdout
    assert str(podpy.directory) not in made.text


def test_a_secret_is_nowhere_but_in_its_command(build: Builds, podpy: Podpy) -> None:
    file = podpy.directory / "secret"
    file.write_text(SENTINEL)
    podpy.env["TOKEN"] = SENTINEL
    made = build(
        "RUN --mount=type=secret,id=f --mount=type=secret,id=e,env=TOKEN"
        " test $(cat /run/secrets/f) = $TOKEN\n"
        "RUN env; ls /run/secrets 2>/dev/null; cat /proc/*/environ\n",
        "--secret", f"id=f,src={file}", "--secret", "id=e,env=TOKEN",
    )  # fmt: skip
    assert SENTINEL not in made.stderr
    assert SENTINEL not in podpy("image", "inspect", made.image).stdout
    assert SENTINEL not in podpy("history", "--no-trunc", made.image).stdout
    file.unlink()
    found = [
        path
        for top in ("data", "cache", "run", "tmp")
        for path in (podpy.directory / top).rglob("*")
        if path.is_file() and SENTINEL.encode() in path.read_bytes()
    ]
    assert found == []


def test_the_hosts_abstract_sockets_and_loopback_are_closed(build: Builds) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        for network in ("none", "slirp4netns"):
            made = build(
                f"RUN for host in 127.0.0.1 10.0.2.2; do nc -w 1 $host {port} </dev/null"
                " && echo open; done; true\n",
                "--network", network, "--no-cache",
            )  # fmt: skip
            assert made.said == [] or "open" not in made.said


def test_cve_2023_25809_the_cgroup_of_a_command_is_its_own(build: Builds) -> None:
    made = build(
        "RUN grep ^0:: /proc/self/cgroup; ls -d /sys/fs/cgroup/*/cgroup.procs 2>/dev/null; true\n"
    )
    assert made.said == ["0::/"]


def test_set_user_id_of_a_mount_does_not_count(build: Builds) -> None:
    build.write({"tool": "#!/bin/sh\n"})
    made = build(
        "RUN --mount=target=/c --mount=type=cache,target=/k --mount=type=tmpfs,target=/t"
        " grep -E ' /(c|k|t) ' /proc/self/mounts | grep -vc nosuid; true\n"
    )
    assert made.said == ["0"]


def test_masked_paths_are_masked(build: Builds) -> None:
    made = build(
        "RUN cat /proc/kcore 2>/dev/null | wc -c;"
        " ls /proc/acpi /sys/firmware 2>/dev/null | grep -v :;"
        " ! echo 1 2>/dev/null > /proc/sys/kernel/core_pattern && echo refused\n"
    )
    assert [line for line in made.said if line] == ["0", "refused"]


# --- what outlives it --------------------------------------------------------


def _sleeping(build: Builds, command: str, seconds: str) -> tuple[Background, processes.Process]:
    path = build.podpy.directory / "Dockerfile"
    path.write_text(f"FROM {BUSYBOX}\nRUN {command}\n")
    running = build.podpy.start("build", "--network", "none", "-f", path, build.context)
    found: list[processes.Process] = []

    def sleeps() -> bool:
        wanted = f"sleep\0{seconds}\0"
        found[:] = [one for one in processes.descendants() if _command_line(one.pid) == wanted]
        return bool(found)

    eventually(sleeps)
    return running, found[0]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize("who", ["coordinator", "worker", "both"])
def test_a_killed_builder_takes_its_commands_along(build: Builds, who: str) -> None:
    """Also those in the background, which have left the session."""
    command = "setsid sleep 1031 & exec sleep 1032"
    running, payload = _sleeping(build, command, "1032")
    worker = next(
        one.pid
        for one in processes.descendants(running.pid)
        if payload.pid in {child.pid for child in processes.descendants(one.pid)}
        and one.pid != running.pid
    )
    background: list[processes.Process] = []

    def runs_on() -> bool:
        wanted = "sleep\x001031\0"
        background[:] = [one for one in processes.descendants() if _command_line(one.pid) == wanted]
        return bool(background)

    eventually(runs_on)
    doomed = {"coordinator": [running.pid], "worker": [worker], "both": [worker, running.pid]}
    for pid in doomed[who]:
        os.kill(pid, signal.SIGKILL)
    running.wait()
    for one in (payload, *background):
        eventually(lambda one=one: not one.alive())  # type: ignore[misc]
    build.podpy("builder", "prune", "-a", "-f")
    assert build.podpy.staging() == []
