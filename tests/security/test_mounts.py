"""Mounts: targets that point elsewhere, device nodes that are none, what stays hidden."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from support import images
from support.podpy import Podpy

NONE = ("--network", "none")


def snapshot(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file below a directory with its mode, owner and content."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(directory))] = (status.st_mode, status.st_uid, content)
    return found


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_cve_2019_19921_a_link_in_place_of_a_kernel_directory(podpy: Podpy, name: str) -> None:
    """/proc, /sys and /dev must be directories of the image; a link is refused."""
    host = podpy.directory / "host"
    (host / "self").mkdir(parents=True)
    layer = images.Layer()
    busybox = images.busybox_layer()
    layer.symlink(name, f"../../../../../../../..{host}")
    whiteout = images.Layer().file(f".wh.{name}")
    image = podpy.load_layers(f"localhost/no{name}:latest", busybox, whiteout, layer)
    before = snapshot(host)
    done = podpy("run", "--rm", *NONE, image, "echo", "ran", code=None)
    assert done.code == 125
    assert f"/{name}" in done.stderr
    assert "ran" not in done.stdout
    assert snapshot(host) == before


@pytest.mark.parametrize("kind", ["link", "inner link", "file", "missing"])
def test_cve_2026_41579_dev_that_is_no_directory(podpy: Podpy, kind: str) -> None:
    layers = [images.busybox_layer(), images.Layer().file(".wh.dev")]
    if kind == "link":
        layers.append(images.Layer().symlink("dev", "/tmp"))
    elif kind == "inner link":
        layers.append(images.Layer().symlink("dev", "tmp/x").directory("tmp/x"))
    elif kind == "file":
        layers.append(images.Layer().file("dev", "x"))
    image = podpy.load_layers("localhost/nodev:latest", *layers)
    shown = podpy("run", "--rm", *NONE, image, "stat", "-c", "%t:%T %a", "/dev/null", code=None)
    if kind == "missing":
        assert shown.text == "1:3 666"
    else:
        assert shown.code == 125


def test_cve_2025_31133_dev_is_fresh_whatever_the_image_holds(podpy: Podpy) -> None:
    victim = podpy.directory / "victim"
    victim.write_text("untouched")
    layer = images.busybox_layer()
    for name in ("null", "console", "ptmx", "tty", "zero", "shm", "mqueue", "stdout"):
        layer.symlink(f"dev/{name}", f"../../../../../../../..{victim}")
    layer.directory("dev/pts").file("dev/pts/ptmx", "no multiplexer")
    image = podpy.load_layers("localhost/dev:latest", layer)
    look = "for f in null zero full random urandom tty; do stat -c '%n %t:%T' /dev/$f; done"
    shown = podpy("run", "--rm", *NONE, image, "sh", "-c", f"{look}; stat -c %a:%u /dev")
    assert shown.lines == [
        "/dev/null 1:3", "/dev/zero 1:5", "/dev/full 1:7", "/dev/random 1:8",
        "/dev/urandom 1:9", "/dev/tty 5:0", "755:0",
    ]  # fmt: skip
    terminal = podpy.terminal("run", "--rm", "-it", *NONE, image, "sh", "-c",
                              "echo x >/dev/console; echo y >/dev/stdout; echo done")  # fmt: skip
    terminal.expect("done")
    terminal.wait()
    assert victim.read_text() == "untouched"


def test_cve_2025_52565_a_terminal_only_from_a_pty_multiplexer(podpy: Podpy, busybox: str) -> None:
    """The container's root puts something else in the place of /dev/pts/ptmx before an exec."""
    option = ("--cap-add", "SYS_ADMIN")
    podpy.run_detached("--name", "c", *NONE, *option, busybox, "sleep", "1000")
    trap = "mkdir -p /t && mount -t tmpfs t /t && echo trap >/t/ptmx && mount --move /t /dev/pts"
    podpy("exec", "c", "sh", "-c", trap)
    shown = podpy.terminal("exec", "-it", "c", "echo", "ran")
    assert shown.wait() == 125
    assert "ran" not in shown.output.replace("trap", "")
    assert podpy("exec", "c", "cat", "/dev/pts/ptmx").text == "trap"


def test_cve_2021_30465_a_target_that_is_swapped(podpy: Podpy, busybox: str) -> None:
    """A container shares a volume and swaps a directory for a link while others mount there."""
    host = podpy.directory / "host"
    host.mkdir()
    (host / "file").write_text("host")
    swap = (
        "cd /v; mkdir -p real; while :; do "
        "mv real dir; mv dir real; "
        f"ln -s ../../../../../../../../../..{host} dir; rm dir; done"
    )
    podpy.run_detached("--name", "swap", *NONE, "-v", "shared:/v", busybox, "sh", "-c", swap)
    before = snapshot(host)
    for number in range(15):
        done = podpy("run", "--rm", *NONE, "-v", "shared:/v", "-v", f"{number}:/v/dir/sub", busybox,
                     "true", code=None)  # fmt: skip
        assert done.code in (0, 125), done.stderr
        assert snapshot(host) == before
    podpy("rm", "-f", "-t", "0", "swap")


def test_cve_2024_45310_no_file_is_made_outside(podpy: Podpy) -> None:
    """The place of a mount is made inside the root, whatever its parents are."""
    host = podpy.directory / "host"
    host.mkdir()
    source = podpy.directory / "source"
    source.write_text("from outside")
    layer = images.busybox_layer().symlink("target", f"../../../../../../../..{host}")
    image = podpy.load_layers("localhost/target:latest", layer)
    done = podpy("run", "--rm", *NONE, "-v", f"{source}:/target/new", "-v", "v:/target/dir", image,
                 "cat", "/target/new", code=None)  # fmt: skip
    assert list(host.iterdir()) == []
    if done.code == 0:  # a link inside the root: the file is where the container sees it
        assert done.text == "from outside"


def test_device_nodes_of_an_image_open_nothing(podpy: Podpy) -> None:
    layer = images.busybox_layer()
    layer.entry("node", tarfile.BLKTYPE, mode=0o666, devmajor=254, devminor=0)
    image = podpy.load_layers("localhost/node:latest", layer)
    podpy("run", "--rm", *NONE, image, "head", "-c", "1", "/node", code=1)


MASKED = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/acpi"]
READ_ONLY = ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"]


def test_what_containers_must_not_see_or_write(podpy: Podpy, busybox: str) -> None:
    podpy.run_detached("--name", "c", *NONE, busybox, "sleep", "1000")
    for path in MASKED:
        shown = podpy("exec", "c", "sh", "-c", f"[ -d {path} ] && ls -A {path} || cat {path}",
                      code=None)  # fmt: skip
        assert shown.stdout == "", path
    for path in READ_ONLY:
        podpy("exec", "c", "sh", "-c", f"[ -e {path} ] && echo x >{path}", code=1)
    undone = podpy("exec", "c", "sh", "-c", "umount /proc/kcore /proc/sys", code=1)
    assert "ermi" in undone.stderr


def test_cve_2023_25809_cgroups_of_others_are_out_of_reach(podpy: Podpy, busybox: str) -> None:
    podpy.run_detached("--name", "c", *NONE, busybox, "sleep", "1000")
    for how in (("run", "--rm", *NONE, busybox), ("exec", "c")):
        shown = podpy(*how, "grep", "^0::", "/proc/self/cgroup")
        assert shown.text == "0::/", "the container's cgroup is not its root"
        write = "mkdir /sys/fs/cgroup/x || echo 1 >/sys/fs/cgroup/cgroup.procs"
        podpy(*how, "sh", "-c", write, code=1)
    podpy("run", "--rm", "--privileged", *NONE, busybox, "sh", "-c",
          "[ $(wc -l </sys/fs/cgroup/cgroup.procs) -le 3 ]")  # fmt: skip
