"""RUN: forms of commands, what they see, their mounts, and what does not get into a layer."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from podpy.errors import HostError
from podpy.kernel import cgroup as groups
from support import host, processes
from support.builds import Builds
from support.command import Background
from support.podpy import BUSYBOX, Podpy
from support.polling import eventually


@pytest.fixture
def build(podpy: Podpy) -> Builds:
    return Builds(podpy)


# --- forms -------------------------------------------------------------------


def test_forms_of_the_command(build: Builds) -> None:
    made = build(
        'SHELL ["/bin/sh", "-ec"]\n'
        "RUN echo shell $0; echo $-\n"
        'RUN ["echo", "exec", "$HOME"]\n'
        "RUN echo one && \\\n    echo two\n"
    )
    assert made.said == ["shell /bin/sh", "ce", "exec $HOME", "one", "two"]


def test_heredocs(build: Builds) -> None:
    made = build(
        "RUN <<EOF\necho first\necho second $HOME\nEOF\n"
        "RUN <<EOF\n#!/bin/cat\nprogram\nEOF\n"
        "RUN cat <<A - <<'B'\nfrom a\nA\n$HOME\nB\n"
        "RUN <<-EOF\n\techo chomped\n\tEOF\n"
        "RUN sh <<EOF\necho by a shell\nEOF\n"
    )
    assert made.said == [
        "first", "second /root", "#!/bin/cat", "program", "$HOME", "chomped", "by a shell",
    ]  # fmt: skip
    assert made.layers()[1:] == [[]] * 5


def test_a_failing_command_fails_the_build_with_its_code(build: Builds) -> None:
    made = build("RUN echo before\nRUN exit 7\n", code=None)
    assert 'process "/bin/sh -c exit 7" did not complete successfully: exit code: 7' in made.error
    assert made.said == ["before"]


def test_a_command_that_does_not_exist(build: Builds) -> None:
    made = build('RUN ["nosuch"]\n', code=None)
    assert 'exec: "nosuch": executable file not found in $PATH' in made.error


# --- what it sees ------------------------------------------------------------


def test_environment_user_and_directory(build: Builds, users_image: str) -> None:
    made = build(
        f"FROM {users_image}\nARG given=default\nARG same=arg\nENV same=env own=1\n"
        "USER alice\nWORKDIR /work\n"
        "RUN env | sort; id -u; pwd; hostname\n",
        "--build-arg", "given=told", "--build-arg", "HTTP_PROXY=http://proxy:1",
    )  # fmt: skip
    assert made.said == [
        "HOME=/home/alice", "HTTP_PROXY=http://proxy:1",
        "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "PWD=/work",
        "SHLVL=1", "given=told", "own=1", "same=env", "1000", "/work", "podpy-build",
    ]  # fmt: skip
    assert "proxy" not in json.dumps(made.config())


def test_rights_and_limits(build: Builds) -> None:
    made = build(
        "RUN grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; ulimit -n; df -k /dev/shm"
        " | tail -1; grep example /etc/hosts; cat /etc/resolv.conf; ls /given\n",
        "--cap-drop", "all", "--cap-add", "chown", "--security-opt", "no-new-privileges",
        "--ulimit", "nofile=100:200", "--shm-size", "1m", "--add-host", "example.test:192.0.2.7",
        "--dns", "192.0.2.8", "--dns-search", "example.test",
        "--volume", f"{build.context}:/given:ro", "--network", "slirp4netns",
    )  # fmt: skip
    assert made.said[:4] == [
        "CapEff:\t0000000000000001", "NoNewPrivs:\t1", "Seccomp:\t2", "100",
    ]  # fmt: skip
    assert re.match(r"tmpfs +1024 ", made.said[4])
    assert made.said[5:] == [
        "192.0.2.7\texample.test", "search example.test", "nameserver 192.0.2.8",
    ]  # fmt: skip


def test_limits_of_the_cgroup_are_set_or_refused(build: Builds) -> None:
    options = ("--memory", "64m", "--cpu-quota", "50000", "--cpu-shares", "512")
    command = "RUN cd /sys/fs/cgroup; cat memory.max memory.swap.max cpu.max cpu.weight\n"
    parent = groups.delegated()
    available = Path(parent, "cgroup.controllers").read_text().split() if parent else []
    if {"memory", "cpu"}.issubset(available):
        made = build(command, *options)
        assert made.said[0] == str(64 << 20)
        assert made.said[-2:] == ["50000 100000", "20"]
    else:
        made = build(command, *options, code=125)
        assert "is not delegated to you" in made.error or "cannot be limited" in made.error


def test_a_limit_is_what_the_kernel_says_it_is(cgroup: host.OwnCgroup) -> None:
    """With whatever controller this host delegates."""
    parent = groups.delegated()
    available = Path(parent, "cgroup.controllers").read_text().split() if parent else []
    choices = {"memory.max": str(1 << 26), "pids.max": "77", "hugetlb.2MB.max": str(1 << 22)}
    known = {name: value for name, value in choices.items() if name.split(".")[0] in available}
    if not parent:
        pytest.skip("no cgroup is delegated")
    path = groups.create(parent, f"podpy-test-limits-{os.getpid()}")
    try:
        groups.limit(path, known)
        assert {name: Path(path, name).read_text().strip() for name in known} == known
        with pytest.raises(HostError, match=r"nosuch\.max: the controller nosuch is not delegated"):
            groups.limit(path, {"nosuch.max": "1"})
    finally:
        groups.remove(path)


def test_networks(build: Builds) -> None:
    made = build(
        "RUN ls /sys/class/net\nRUN --network=none ls /sys/class/net\n"
        "RUN --network=host readlink /proc/self/ns/net\n",
        "--network", "slirp4netns", "--allow", "network.host",
    )  # fmt: skip
    assert made.said == ["lo", "tap0", "lo", os.readlink("/proc/self/ns/net")]


def test_a_network_by_name(build: Builds) -> None:
    build.podpy("network", "create", "--subnet", "10.77.1.0/24", "made")
    made = build("RUN ip -4 -o addr show eth0; cat /etc/resolv.conf\n", "--network", "made")
    assert "inet 10.77.1.2/24" in made.text
    assert "nameserver 10.77.1.1" in made.text
    build.podpy("network", "rm", "made")


def test_isolation_chroot_needs_no_namespace_but_two(build: Builds) -> None:
    made = build(
        "RUN for kind in net pid ipc uts cgroup mnt user; do readlink /proc/self/ns/$kind; done;"
        " id -u; ls /proc/self/cwd | grep -c etc; touch /made\n",
        "--isolation", "chroot", "--network", "host",
    )  # fmt: skip
    own = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "pid", "ipc", "uts", "cgroup")]
    assert made.said[:5] == own
    assert made.said[5:7] != [os.readlink("/proc/self/ns/mnt"), os.readlink("/proc/self/ns/user")]
    assert made.said[7:] == ["0", "1"]
    assert made.layers()[-1] == ["made"]


def test_what_a_rootless_build_cannot_give(build: Builds) -> None:
    assert "no privileges to give" in build("RUN --security=insecure true\n", code=125).error
    assert "only with your leave" in build("RUN --network=host true\n", code=125).error
    assert "default map" in build("RUN true\n", "--userns", "keep-id", code=125).error


# --- what stays out of the layers --------------------------------------------


def test_a_command_that_changes_nothing_makes_an_empty_layer(build: Builds) -> None:
    """No hosts file, no mount target, no directory that only carried one."""
    made = build(
        "RUN true\n"
        "RUN --mount=type=tmpfs,target=/usr/deep/er true\n"
        "RUN --mount=type=cache,target=/root/.cache/x true\n"
        "RUN --mount=type=bind,target=/etc/here/context true\n"
        "RUN rm -f /etc/nothing; cat /etc/hosts /etc/resolv.conf /proc/self/status >/dev/null\n"
    )
    assert made.layers()[1:] == [[]] * 5


def test_from_scratch_a_command_leaves_no_mount_targets(build: Builds) -> None:
    made = build(
        f"FROM scratch\nCOPY --from={BUSYBOX} /bin/busybox /bin/sh\nRUN echo made > /made\n"
    )
    assert made.layers()[-1] == ["made"]


def test_a_links_target_that_is_not_there_is_made_and_taken_away(build: Builds) -> None:
    """Images have ``/etc/resolv.conf`` as a link to what a resolver's service writes."""
    links = build.context / "links"
    links.mkdir()
    (links / "resolv.conf").symlink_to("../run/resolve/stub.conf")
    (links / "other").symlink_to("/not/there")
    made = build(
        "COPY links /etc/\nRUN --mount=type=tmpfs,target=/etc/other/inner"
        " cat /etc/resolv.conf; ls /run/resolve /not/there\n",
        "--network", "slirp4netns", "--dns", "192.0.2.8",
    )  # fmt: skip
    assert made.said[0] == "nameserver 192.0.2.8"
    assert {"stub.conf", "inner"}.issubset(made.said)
    assert made.layers()[-1] == []
    assert not Path("/not").exists()


def test_what_a_command_puts_into_a_mount_targets_directory_stays(build: Builds) -> None:
    made = build("RUN --mount=type=tmpfs,target=/new/inner echo x > /new/own\n")
    assert made.layers()[-1] == ["new", "new/own"]


def test_directories_times_are_put_back(build: Builds) -> None:
    made = build(
        "RUN mkdir /dir && touch -d '2001-02-03 04:05:06' /dir\n"
        "RUN --mount=type=tmpfs,target=/dir/a true\n"
        "RUN --mount=type=tmpfs,target=/dir/b chmod 700 /dir\n"
        "RUN stat -c '%Y %a' /dir\n"
    )
    assert made.said == ["981173106 700"]
    assert made.layers()[2:4] == [[], ["dir"]]


# --- mounts ------------------------------------------------------------------


def test_bind_mounts_of_the_context(build: Builds) -> None:
    build.write({"a.txt": "a\n", "sub/b.txt": "b\n"})
    made = build(
        "WORKDIR /work\n"
        "RUN --mount=target=ctx cat ctx/a.txt ctx/sub/b.txt; ! touch ctx/new 2>/dev/null; pwd\n"
        "RUN --mount=target=/c,rw echo changed > /c/a.txt; rm -r /c/sub; cat /c/a.txt; ls /c\n"
        "RUN --mount=source=sub/b.txt,target=/b cat /b\n"
    )
    assert made.said == ["a", "b", "/work", "changed", "a.txt", "b"]
    assert (build.context / "a.txt").read_text() == "a\n"
    assert (build.context / "sub/b.txt").exists()
    assert made.layers()[2:] == [[]] * 3


def test_what_is_ignored_is_not_in_a_mount(build: Builds) -> None:
    build.write({
        ".dockerignore": "secret\nbig\n!big/kept\n*.log\n",
        "secret": "s", "big/one": "1", "big/kept": "k", "a.log": "l", "dir/b.log": "l", "dir/c": "",
    })  # fmt: skip
    made = build("RUN --mount=target=/c cd /c && find . -type f | sort\n")
    assert made.said == ["./.dockerignore", "./big/kept", "./dir/b.log", "./dir/c"]


def test_bind_mounts_of_stages_and_images(build: Builds) -> None:
    made = build(
        f"FROM {BUSYBOX} AS made\nRUN mkdir /data && echo stage > /data/s\n"
        f"FROM {BUSYBOX}\n"
        "RUN --mount=from=made,source=/data,target=/d cat /d/s; ! touch /d/x 2>/dev/null\n"
        "RUN --mount=from=made,target=/all,rw rm -r /all/data; ls -d /all/data || echo gone\n"
        "RUN --mount=from=made,source=data/s,target=/s cat /s\n"
        f"RUN --mount=from={BUSYBOX},source=/bin,target=/t test -x /t/busybox && echo yes\n"
    )
    assert [line for line in made.said if "No such" not in line] == [
        "stage",
        "gone",
        "stage",
        "yes",
    ]


def test_a_missing_source_is_named(build: Builds) -> None:
    made = build("RUN --mount=source=nosuch,target=/x true\n", code=125)
    assert "nosuch" in made.error


def test_a_changed_file_in_a_mount_runs_again_and_a_touched_one_does_not(build: Builds) -> None:
    build.write({"used/a": "1", "other": "1"})
    text = "RUN --mount=source=used,target=/used cat /used/a > /out\n"
    build(text)
    os.utime(build.context / "used/a", (1, 1))
    build.write({"other": "2"})
    assert build(text).cached == 1
    build.write({"used/a": "2"})
    assert build(text).cached == 0


def test_a_changed_file_in_a_mounted_stage_runs_again(build: Builds) -> None:
    text = (
        f"FROM {BUSYBOX} AS made\nCOPY file /data/file\nRUN date +%N > /noise\n"
        f"FROM {BUSYBOX}\nRUN --mount=from=made,source=/data,target=/d cat /d/file > /out\n"
    )
    build.write({"file": "1", "noise": "1"})
    build(text)
    noisy = text.replace("%N", "%s%N")  # another stage, the same /data
    assert build(noisy).cached == 2
    build.write({"file": "2"})
    assert build(text).cached == 0


def test_cache_mounts_survive_and_are_shared_by_id(build: Builds) -> None:
    text = "RUN --mount=type=cache,target=/c,id=mine echo x >> /c/n; wc -l < /c/n\n"
    assert build(text).said == ["1"]
    assert build(text, "--no-cache").said == ["2"]
    assert build("RUN --mount=type=cache,target=/elsewhere,id=mine ls /elsewhere\n").said == ["n"]
    assert build("RUN --mount=type=cache,target=/c ls /c; echo\n").said == [""]
    read_only = "RUN --mount=type=cache,target=/c,id=mine,ro touch /c/x 2>/dev/null || echo no\n"
    assert build(read_only).said == ["no"]


def test_a_new_cache_mount_has_the_mode_and_owner_asked_for(build: Builds) -> None:
    made = build("RUN --mount=type=cache,target=/c,mode=0750,uid=7,gid=8 stat -c '%a %u %g' /c\n")
    assert made.said == ["750 7 8"]


def test_a_cache_mount_begins_with_what_from_names(build: Builds) -> None:
    text = (
        f"FROM {BUSYBOX} AS seed\nRUN mkdir /data && echo 1 > /data/a\nFROM {BUSYBOX}\n"
        "RUN --mount=type=cache,target=/c,from=seed,source=/data cat /c/*; echo 2 > /c/b\n"
    )
    assert build(text).said == ["1"]
    assert build(f"{text}\n".replace("cat ", "cat -- ")).said == ["1", "2"]


#: A stage that needs the stages one and two.
BOTH = "FROM scratch\nCOPY --from=one /etc /a\nCOPY --from=two /etc /b\n"


@pytest.mark.parametrize(("sharing", "together"), [("locked", False), ("shared", True)])
def test_sharing_of_cache_mounts(build: Builds, sharing: str, together: bool) -> None:
    mount = f"--mount=type=cache,target=/c,id=s-{sharing},sharing={sharing}"
    wait = "touch /c/$me; for i in 1 2 3 4 5 6 7 8; do sleep 0.1; ls /c | tr '\\n' ' '; done; echo"
    stage = "FROM {0} AS {1}\nENV me={1}\nRUN {2} {3}; rm /c/$me\n"
    text = "".join(stage.format(BUSYBOX, name, mount, wait) for name in ("one", "two"))
    made = build(
        f"{text}FROM scratch\nCOPY --from=one /etc /a\nCOPY --from=two /etc /b\n", "--jobs", "2"
    )
    assert any("one two" in line for line in made.said) is together


def test_locked_caches_never_wait_for_each_other(build: Builds) -> None:
    """One command with a cache twice, two commands with two caches in opposite orders."""
    locked = "--mount=type=cache,sharing=locked,target=/{0},id={0}"
    a, b = locked.format("a"), locked.format("b")
    again = a.replace("target=/a", "target=/again")
    text = (
        f"FROM {BUSYBOX} AS one\nRUN {a} {again} {b} echo x > /a/x; sleep 0.3; ls /again\n"
        f"FROM {BUSYBOX} AS two\nRUN {b} {a} sleep 0.3; ls /a\n{BOTH}"
    )
    assert set(build(text, "--jobs", "2").said) == {"x"}


@pytest.mark.parametrize("driver", ["fuse-overlayfs", "vfs"])
def test_other_storage_drivers_make_the_same_layers(build: Builds, driver: str) -> None:
    build.write({"file": "1\n", "hidden": "", ".dockerignore": "hidden\n"})
    text = (
        f"FROM {BUSYBOX} AS made\nRUN mkdir -p /data && echo stage > /data/s\nFROM {BUSYBOX}\n"
        "RUN true\nRUN --mount=target=/etc/ctx,rw echo x >> /etc/ctx/file; ls /etc/ctx\n"
        "RUN --mount=from=made,source=/data,target=/d,rw cat /d/s; echo x > /d/s\n"
        "RUN --mount=type=cache,target=/root/.cache/x --mount=type=tmpfs,target=/a/b true\n"
        "RUN mkdir /etc/new; echo x > /etc/new/f; mv /etc/passwd /etc/pw; rm -r /tmp\n"
    )
    build.podpy.env["STORAGE_DRIVER"] = "overlay"
    expected = build(text, "--no-cache")
    build.podpy.env["STORAGE_DRIVER"] = driver
    made = build(text, "--no-cache")
    assert sorted(made.said) == sorted(expected.said) == ["file", "stage"]
    assert made.layers() == expected.layers()
    assert made.layers()[1:5] == [[]] * 4


def test_private_cache_mounts_are_one_builds_at_a_time(build: Builds) -> None:
    mount = "--mount=type=cache,target=/c,id=p,sharing=private"
    stage = f"FROM {BUSYBOX} AS {{0}}\nRUN {mount} touch /c/{{0}}; sleep 1; ls /c | wc -l\n"
    text = stage.format("one") + stage.format("two")
    made = build(
        f"{text}FROM scratch\nCOPY --from=one /etc /a\nCOPY --from=two /etc /b\n", "--jobs", "2"
    )
    assert made.said == ["1", "1"]


def test_tmpfs_mounts(build: Builds) -> None:
    made = build(
        "RUN --mount=type=tmpfs,target=/t,size=1m df -k /t | tail -1; echo x > /t/f;"
        " cp /bin/busybox /t/b 2>/dev/null || echo full\n"
        "RUN ls /t 2>&1 || true\n"
    )
    assert re.match(r"tmpfs +1024 ", made.said[0])
    assert made.said[1] == "full"
    assert "No such file" in made.said[2]


def test_secrets(build: Builds) -> None:
    secret = build.podpy.directory / "secret"
    secret.write_text("hidden-file")
    build.podpy.env["TOKEN"] = "hidden-variable"
    made = build(
        "RUN --mount=type=secret,id=f cat /run/secrets/f; echo; stat -c '%a %u' /run/secrets/f\n"
        "RUN --mount=type=secret,id=f,target=/etc/s,mode=0444,uid=7,gid=8"
        " stat -c '%a %u %g' /etc/s; ! echo x 2>/dev/null > /etc/s && echo read-only\n"
        "RUN --mount=type=secret,id=v,env=GOT test $GOT = hidden-variable && ls -d /run/secrets"
        " 2>/dev/null || echo only-variable\n"
        "RUN --mount=type=secret,id=nosuch ls -d /run/secrets 2>/dev/null || echo none\n",
        "--secret", f"id=f,src={secret}", "--secret", "id=v,env=TOKEN",
    )  # fmt: skip
    assert made.said == ["hidden-file", "400 0", "444 7 8", "read-only", "only-variable", "none"]
    assert made.layers()[1:] == [[]] * 4
    required = build("RUN --mount=type=secret,id=nosuch,required true\n", code=125)
    assert "secret nosuch is required and was not given" in required.error


def test_a_secrets_value_is_not_in_the_key(build: Builds) -> None:
    secret = build.podpy.directory / "secret"
    text = "RUN --mount=type=secret,id=f wc -c < /run/secrets/f > /n\n"
    for value in ("one", "another"):
        secret.write_text(value)
        made = build(text, "--secret", f"id=f,src={secret}")
    assert made.cached == 1


# --- ssh ---------------------------------------------------------------------


@pytest.fixture
def key(podpy: Podpy) -> Path:
    if not shutil.which("ssh-agent"):
        pytest.skip("no openssh-client")
    path = podpy.directory / "key"
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "our key", "-f", str(path)]
    subprocess.run(make, check=True)
    return path


#: The host's own programs, for an image that has no ssh-add.
HOST = tuple(
    word for path in ("/usr", "/lib", "/lib64") if Path(path).is_dir()
    for word in ("--volume", f"{path}:{path}:ro")
)  # fmt: skip


def test_keys_are_lent_by_an_agent_and_never_given(build: Builds, key: Path) -> None:
    made = build(
        "RUN --mount=type=ssh stat -c '%F %a' $SSH_AUTH_SOCK; /usr/bin/ssh-add -l;"
        " /usr/bin/ssh-add -D 2>/dev/null || echo refused; /usr/bin/ssh-add -l\n",
        "--ssh", f"default={key}", *HOST,
    )  # fmt: skip
    assert made.said[0] == "socket 600"
    assert "our key" in made.said[1]
    assert made.said[2] == "refused"
    assert made.said[3] == made.said[1]


@pytest.fixture
def agent(podpy: Podpy, key: Path) -> Iterator[Path]:
    """The socket of an agent that has the key."""
    place = podpy.directory / "a"
    running = Background(["ssh-agent", "-D", "-a", str(place)], env=podpy.env)
    eventually(place.exists)
    subprocess.run(["ssh-add", "-q", str(key)], check=True, env={"SSH_AUTH_SOCK": str(place)})
    yield place
    running.kill()
    running.wait()


def test_an_agents_socket_is_forwarded_to_users_too(
    build: Builds, agent: Path, users_image: str
) -> None:
    made = build(
        f"FROM {users_image}\nUSER alice\n"
        "RUN --mount=type=ssh,id=mine,uid=1000,target=/tmp/agent"
        " echo $SSH_AUTH_SOCK; /usr/bin/ssh-add -l\n",
        "--ssh", f"mine={agent}", *HOST,
    )  # fmt: skip
    assert made.said[0] == "/tmp/agent"
    assert "our key" in made.said[1]


def test_an_agent_may_be_required(build: Builds) -> None:
    made = build("RUN --mount=type=ssh,required true\n", code=125)
    assert "agent default is required and was not given" in made.error
    assert build("RUN --mount=type=ssh echo ${SSH_AUTH_SOCK:-none}\n").said == ["none"]


# --- ending ------------------------------------------------------------------


def sleeper(build: Builds, seconds: str) -> tuple[Background, processes.Process]:
    """A build whose command sleeps, and that command."""
    path = build.podpy.directory / "Dockerfile"
    path.write_text(f"FROM {BUSYBOX}\nRUN echo begun; exec sleep {seconds}\n")
    running = build.podpy.start("build", "--network", "none", "-f", path, build.context)
    eventually(lambda: " begun" in running.stderr)
    found: list[processes.Process] = []

    def sleeps() -> bool:
        every = processes.descendants()
        found[:] = [one for one in every if command_line(one.pid) == f"sleep\0{seconds}\0"]
        return bool(found)

    eventually(sleeps)
    return running, found[0]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_command_outlives_its_build(build: Builds, number: signal.Signals) -> None:
    running, command = sleeper(build, f"10{number}")
    running.signal(number)
    running.wait()
    eventually(lambda: not command.alive())
    if number != signal.SIGKILL:
        eventually(lambda: not build.podpy.staging(), what="what it made is taken away")
    build.podpy("builder", "prune", "-a", "-f")
