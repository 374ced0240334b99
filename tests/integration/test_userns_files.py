"""Files of images and volumes under maps that do not know the owners the store gave them."""

from __future__ import annotations

import pytest

from support import host, images
from support.podpy import Podpy

QUICK = ("run", "--rm", "--network", "none")
MAPS = (
    ("--userns=nomap",),
    ("--userns=auto:size=2000",),
    ("--uidmap=0:3000:2000", "--gidmap=0:3000:2000"),
)
PRIVATE = ("/etc/shadow", "/root/file", "/data/file", "/data/deep/file")


@pytest.fixture
def private_files(podpy: Podpy) -> str:
    """An image with files that only their owners may reach, in a volume too."""
    made = images.Layer().directory("root", mode=0o700).file("root/file", "root\n")
    made.file("etc/shadow", "shadow\n", mode=0o600)
    made.directory("data", uid=1000).file("data/file", "data\n", mode=0o640, uid=1000)
    made.directory("data/deep", mode=0o700, uid=33).file("data/deep/file", "deep\n", uid=33)
    return podpy.load_layers("localhost/private:1", images.busybox_layer(), made, Env=["PATH=/bin"])


@pytest.mark.parametrize("options", MAPS, ids=lambda words: str(words[0]))
@pytest.mark.parametrize("driver", ["overlay", "fuse-overlayfs", "vfs"])
def test_root_reads_private_files_of_the_image(
    podpy: Podpy, private_files: str, options: tuple[str, ...], driver: str
) -> None:
    host.require("fuse-overlayfs")
    command = (*QUICK, *options, private_files, "sh", "-c", f"cat {' '.join(PRIVATE)}; ls -dln /")
    done = podpy(*command, env={"STORAGE_DRIVER": driver})
    assert done.lines[:-1] == ["shadow", "root", "data", "deep"]
    assert done.lines[-1].split()[2:4] == ["0", "0"]
    assert ("the image is copied" in done.stderr) == (driver == "fuse-overlayfs")


def test_a_user_that_is_not_mapped_is_named(podpy: Podpy, busybox: str) -> None:
    done = podpy.fails(*QUICK, "--userns=auto:size=10", "-u", "1000", busybox, "true")
    assert "1000:0: the container's user namespace has no such user" in done.stderr


@pytest.mark.parametrize("options", MAPS, ids=lambda words: str(words[0]))
def test_volumes_are_filled_and_belong_to_root(
    podpy: Podpy, private_files: str, options: tuple[str, ...]
) -> None:
    volumes = ("-v", "/data", "-v", "/new", "-v", "plain:/etc:nocopy")
    script = "cat /data/file /data/deep/file; stat -c %u /data /new /etc; touch /new/x /etc/x"
    done = podpy(*QUICK, *options, *volumes, private_files, "sh", "-c", script)
    assert done.lines == ["data", "deep", "1000", "0", "0"]


def test_a_failed_start_empties_a_volume_that_others_own(podpy: Podpy) -> None:
    data = images.Layer().directory("data", mode=0o700, uid=7).file("data/file", "x", uid=7)
    image = podpy.load_layers("localhost/others:1", images.busybox_layer(), data)
    failing = ("--sysctl", "net.no.such=1")  # set when the volume is filled already
    done = podpy.fails(*QUICK, "-v", "v:/data", *failing, image, "true")
    assert "net.no.such" in done.stderr
    assert podpy(*QUICK, "-v", "v:/data", image, "stat", "-c", "%u", "/data").text == "7"
