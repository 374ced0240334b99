"""``run`` and ``create``: what options do inside, and what is left when something is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support import host, images
from support.podpy import Podpy
from support.polling import eventually

QUICK = ("run", "--rm", "--network", "none")


def nothing_is_left(podpy: Podpy) -> None:
    assert podpy("ps", "-a", "-q").text == ""
    assert podpy.containers() == []
    assert podpy("volume", "ls", "-q").text == ""
    eventually(lambda: podpy.staging() == [])  # trees are deleted after the answer


# --- the process -------------------------------------------------------------------


def test_environment_directory_and_host_name(podpy: Podpy, busybox: str) -> None:
    env_file = podpy.directory / "env"
    env_file.write_text("# comment\nFROM_FILE=1\n")
    done = podpy(
        *QUICK, "-e", "A=b c", "--env-file", env_file, "-w", "/new/dir", "-h", "box",
        busybox, "sh", "-c", 'echo "$A" $FROM_FILE $HOME $container $HOSTNAME; pwd; hostname',
    )  # fmt: skip
    assert done.lines == ["b c 1 /root podpy box", "/new/dir", "box"]


def test_nothing_of_the_callers_environment_gets_in(podpy: Podpy, busybox: str) -> None:
    done = podpy(*QUICK, busybox, "env", env={"SECRET": "sentinel"})
    assert "sentinel" not in done.stdout
    done = podpy(*QUICK, "--env-host", busybox, "env", env={"SECRET": "sentinel"})
    assert "SECRET=sentinel" in done.lines


def test_entrypoint_clears_the_images_command(podpy: Podpy) -> None:
    image = podpy.load_layers(
        "localhost/entry:1", images.busybox_layer(),
        Entrypoint=["/bin/echo", "entry"], Cmd=["cmd"], Env=["PATH=/bin"],
    )  # fmt: skip
    assert podpy(*QUICK, image).text == "entry cmd"
    assert podpy(*QUICK, image, "given").text == "entry given"
    assert podpy(*QUICK, "--entrypoint", "/bin/echo", image).text == ""
    assert podpy(*QUICK, "--entrypoint", '["echo","list"]', image, "x").text == "list x"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137),
        (("/nonexistent",), 127),
        (("/etc",), 126),
    ],
)
def test_exit_codes(podpy: Podpy, busybox: str, command: tuple[str, ...], code: int) -> None:
    podpy(*QUICK, busybox, *command, code=code)
    nothing_is_left(podpy)


def test_a_container_that_cannot_start_is_not_left(podpy: Podpy, busybox: str) -> None:
    podpy("run", "--name", "x", "-v", "/data", "--network", "none", busybox, "/none", code=127)
    nothing_is_left(podpy)
    podpy("run", "--name", "x", "--network", "none", busybox, "true")


def test_limits_and_scores(podpy: Podpy, busybox: str) -> None:
    done = podpy(
        *QUICK, "--ulimit", "nofile=100:200", "--umask", "027", "--oom-score-adj", "500",
        busybox, "sh", "-c", "ulimit -n; ulimit -Hn; umask; cat /proc/self/oom_score_adj",
    )  # fmt: skip
    assert done.lines == ["100", "200", "0027", "500"]


def test_a_time_limit_ends_the_container(podpy: Podpy, busybox: str) -> None:
    podpy(*QUICK, "--timeout", "1", busybox, "sleep", "1000", code=137)


def test_an_init_reaps_what_the_command_leaves(podpy: Podpy, busybox: str) -> None:
    host.require("catatonit")
    orphan = "(sh -c 'sleep 0.1 &'); sleep 0.4; ps -o pid,stat,comm"
    done = podpy(*QUICK, "--init", busybox, "sh", "-c", orphan)
    assert done.lines[1].split()[0] == "1"
    assert "init" in done.lines[1]
    assert not [line for line in done.lines if "Z" in line.split()[1]]
    assert podpy(*QUICK, "--init", busybox, "sh", "-c", "exit 7", code=7).stdout == ""


def test_streams_that_are_not_attached_are_not_shown(podpy: Podpy, busybox: str) -> None:
    done = podpy(*QUICK, "-a", "stdout", busybox, "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "")
    podpy.fails(*QUICK, "-a", "nothing", busybox, "true")
    podpy.fails("run", "-d", "-a", "stdout", busybox, "true")


# --- ids and names -----------------------------------------------------------------


def test_the_id_is_written_to_a_file_that_must_be_new(podpy: Podpy, busybox: str) -> None:
    file = podpy.directory / "cid"
    made = podpy("create", "--cidfile", file, busybox).text
    assert file.read_text() == made
    done = podpy.fails("create", "--cidfile", file, busybox)
    assert str(file) in done.stderr
    podpy("rm", "--cidfile", file)
    nothing_is_left(podpy)


def test_the_pid_is_written_to_a_file(podpy: Podpy, busybox: str) -> None:
    file = podpy.directory / "pid"
    podpy.run_detached(
        "--name", "x", "--pidfile", file, "--network", "none", busybox, "sleep", "99"
    )
    assert file.read_text().strip() == podpy("inspect", "-f", "{{.State.Pid}}", "x").text


def test_replace_takes_the_name(podpy: Podpy, busybox: str) -> None:
    first = podpy.run_detached("--name", "x", "--network", "none", busybox, "sleep", "1000")
    second = podpy.run_detached(
        "--replace", "--name", "x", "--network", "none", busybox, "sleep", "1000"
    )
    assert podpy.containers() == [second] != [first]
    podpy.fails("create", "--replace", busybox)


# --- mounts ------------------------------------------------------------------------


def test_bind_mounts(podpy: Podpy, busybox: str) -> None:
    shared = podpy.directory / "shared"
    shared.mkdir()
    (shared / "file").write_text("content")
    assert podpy(*QUICK, "-v", f"{shared}:/m", busybox, "cat", "/m/file").text == "content"
    podpy(*QUICK, "-v", f"{shared}:/m:ro", busybox, "touch", "/m/x", code=1)
    podpy(*QUICK, "--mount", f"type=bind,src={shared},dst=/m,ro", busybox, "touch", "/m/x", code=1)
    podpy(*QUICK, "-v", "./shared:/m", busybox, "touch", "/m/y", cwd=podpy.directory)
    assert (shared / "y").exists()
    assert not (shared / "x").exists()


def test_a_missing_source_is_made_for_v_and_reported_for_mount(podpy: Podpy, busybox: str) -> None:
    made = podpy.directory / "made" / "here"
    podpy(*QUICK, "-v", f"{made}:/m", busybox, "touch", "/m/x")
    assert (made / "x").exists()
    missing = podpy.directory / "missing"
    done = podpy.fails(*QUICK, "--mount", f"type=bind,src={missing},dst=/m", busybox, "true")
    assert "bind source path does not exist" in done.stderr
    assert not missing.exists()
    nothing_is_left(podpy)


@pytest.fixture
def image_with_data(podpy: Podpy) -> str:
    data = images.Layer().directory("data", mode=0o750, uid=7).file("data/file", b"content", uid=5)
    return podpy.load_layers(
        "localhost/data:1", images.busybox_layer(), data, Volumes={"/data": {}}, Env=["PATH=/bin"]
    )


def test_a_new_volume_is_filled_once(podpy: Podpy, image_with_data: str, busybox: str) -> None:
    podpy(*QUICK, "-v", "v:/data", image_with_data, "sh", "-c", "rm /data/file; touch /data/own")
    assert podpy(*QUICK, "-v", "v:/data", image_with_data, "ls", "/data").text == "own"
    done = podpy(
        *QUICK, "-v", "w:/data", image_with_data, "stat", "-c", "%u %a", "/data", "/data/file"
    )
    assert done.lines == ["7 750", "5 644"]
    assert podpy(*QUICK, "-v", "n:/data:nocopy", image_with_data, "ls", "/data").text == ""
    assert podpy(*QUICK, "-v", "w:/m", busybox, "cat", "/m/file").text == "content"
    eventually(lambda: podpy.staging() == [])


def test_a_failed_start_leaves_a_new_volume_empty(podpy: Podpy, image_with_data: str) -> None:
    podpy("volume", "create", "v")
    podpy(*QUICK, "-v", "v:/data", image_with_data, "/none", code=127)
    assert podpy(*QUICK, "-v", "v:/data", image_with_data, "cat", "/data/file").text == "content"


def test_volumes_of_the_image_are_anonymous_and_go_with_the_container(
    podpy: Podpy, image_with_data: str
) -> None:
    assert podpy(*QUICK, image_with_data, "cat", "/data/file").text == "content"
    nothing_is_left(podpy)
    podpy("run", "--name", "x", "--network", "none", image_with_data, "true")
    assert len(podpy("volume", "ls", "-q").lines) == 1
    podpy("rm", "-v", "x")
    nothing_is_left(podpy)
    mounts = podpy(*QUICK, "--image-volume", "tmpfs", image_with_data, "cat", "/proc/mounts").stdout
    assert "tmpfs /data tmpfs" in mounts


def test_volumes_from_another_container(podpy: Podpy, busybox: str) -> None:
    podpy("create", "--name", "owner", "-v", "v:/data", busybox)
    podpy(*QUICK, "--volumes-from", "owner", busybox, "touch", "/data/x")
    podpy(*QUICK, "--volumes-from", "owner:ro", busybox, "touch", "/data/y", code=1)
    assert podpy(*QUICK, "-v", "v:/m", busybox, "ls", "/m").text == "x"


def test_tmpfs_and_read_only_root(podpy: Podpy, busybox: str) -> None:
    podpy(*QUICK, "--read-only", busybox, "touch", "/x", code=1)
    podpy(*QUICK, "--read-only", busybox, "touch", "/tmp/x", code=1)
    podpy(*QUICK, "--read-only", "--read-only-tmpfs", busybox, "touch", "/tmp/x")
    podpy(*QUICK, "--read-only", "--tmpfs", "/tmp:size=1m,mode=700", busybox, "touch", "/tmp/x")
    done = podpy(*QUICK, "--tmpfs", "/t:size=64k", busybox, "dd", "if=/dev/zero", "of=/t/x", code=1)
    assert "No space left" in done.stderr


def test_a_root_file_system_instead_of_an_image(podpy: Podpy, busybox: str) -> None:
    root = podpy.directory / "root"
    for name in ("bin", "proc", "sys", "dev", "etc", "run", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "bin" / "busybox").write_bytes(Path(host.program("busybox")).read_bytes())
    (root / "bin" / "busybox").chmod(0o755)
    done = podpy(*QUICK, "--rootfs", root, "/bin/busybox", "echo", "from a directory")
    assert done.text == "from a directory"
    podpy(*QUICK, "--rootfs", f"{root}:O", "/bin/busybox", "mkdir", "/new")
    assert not (root / "new").exists()
    podpy.fails(*QUICK, "--rootfs", podpy.directory / "none", "true")


# --- namespaces --------------------------------------------------------------------


def uid_map(podpy: Podpy, image: str, *options: str) -> list[list[int]]:
    done = podpy(*QUICK, *options, image, "cat", "/proc/self/uid_map")
    return [[int(word) for word in line.split()] for line in done.lines]


def test_user_namespaces(podpy: Podpy, busybox: str) -> None:
    own = os.getuid()
    assert [0, own, 1] in uid_map(podpy, busybox)
    assert [own, own, 1] in uid_map(podpy, busybox, "--userns", "keep-id")
    assert [5, own, 1] in uid_map(podpy, busybox, "--userns", "keep-id:uid=5,gid=5")
    assert all(outside != own for _, outside, _ in uid_map(podpy, busybox, "--userns", "nomap"))
    (only,) = uid_map(podpy, busybox, "--userns", "auto:size=2000")
    assert (only[0], only[2]) == (0, 2000)
    assert uid_map(podpy, busybox, "--uidmap", "0:0:1", "--uidmap", "1:1:9")[0] == [0, own, 1]


def test_auto_gives_each_container_its_own_ids(podpy: Podpy, busybox: str) -> None:
    for name in ("a", "b"):
        podpy("create", "--name", name, "--userns", "auto:size=100", busybox)
    first, second = (
        podpy("inspect", "-f", "{{json .HostConfig.IDMappings.UidMap}}", name).text
        for name in ("a", "b")
    )
    assert first != second


def test_files_in_the_image_keep_their_owners_under_another_map(
    podpy: Podpy, image_with_data: str
) -> None:
    done = podpy(
        *QUICK, "--userns", "keep-id", "-u", "0", "--image-volume", "ignore", image_with_data,
        "stat", "-c", "%u", "/data", "/data/file", "/bin",
    )  # fmt: skip
    assert done.lines == ["7", "5", "0"]


def test_namespaces_of_another_container(podpy: Podpy, busybox: str) -> None:
    podpy.run_detached(
        "--name", "lender", "--network", "none", "--ipc", "shareable", busybox, "sleep", "1000"
    )
    kinds = ("net", "pid", "ipc", "uts")
    script = "; ".join(f"readlink /proc/1/ns/{k}; readlink /proc/self/ns/{k}" for k in kinds)
    joined = [word for k in ("network", *kinds[1:]) for word in (f"--{k}", "container:lender")]
    same = podpy("run", "--rm", *joined, busybox, "sh", "-c", script).lines
    assert same[0::2] == same[1::2]
    assert len(set(same)) == len(kinds)
    podpy("exec", "lender", "sh", "-c", "echo shared > /dev/shm/note")
    quiet = ("run", "--rm", "--network", "none", "--ipc", "container:lender", busybox)
    assert podpy(*quiet, "cat", "/dev/shm/note").lines == ["shared"]
    done = podpy.fails(
        "run", "--rm", "--network", "container:lender", "--userns", "keep-id", busybox, "true"
    )
    assert "--userns" in done.stderr
    podpy("stop", "-t", "0", "lender")
    done = podpy.fails("run", "--rm", "--network", "container:lender", busybox, "true")
    assert "lender" in done.stderr


# --- what cannot be honoured ---------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ("--network", "nowhere"),
        ("--userns", "magic"),
        ("--security-opt", "label=type:x_t"),
        ("--sysctl", "kernel.core_pattern=x"),
        ("--device", "/dev/null:/dev/x:r"),
        ("-v", "/etc"[1:] + "!:/x"),
        ("--mount", "type=image,src=x,dst=/y"),
        ("--log-driver", "syslog"),
        ("--pull", "perhaps"),
        ("--ulimit", "nofile=-1"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_named(
    podpy: Podpy, busybox: str, options: tuple[str, ...]
) -> None:
    if options == ("--ulimit", "nofile=-1"):
        import resource

        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] == resource.RLIM_INFINITY:
            pytest.skip("this user may raise the limit")
    done = podpy.fails("run", "--rm", *options, busybox, "true")
    wanted = "--publish" if "-p" in options else "volume" if "-v" in options else options[0]
    assert wanted in done.stderr
    nothing_is_left(podpy)
