"""A hostile image: what podpy must not open, load, run or follow on its behalf."""

from __future__ import annotations

import os
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

from support import images
from support.podpy import Podpy

NONE = ("--network", "none")

LIBRARIES = ("lib", "lib64", "usr/lib", f"usr/lib/{sysconfig.get_config_var('MULTIARCH')}")
SONAMES = (
    "libc.so.6", "libnss_files.so.2", "libnss_compat.so.2", "libnss_systemd.so.2", "libm.so.6",
    "libnss_dns.so.2", "libseccomp.so.2", "libz.so.1", "liblzma.so.5", "libzstd.so.1",
    "libffi.so.8",
)  # fmt: skip
CONFIGURATION = (
    "etc/nsswitch.conf", "etc/ld.so.cache", "etc/ld.so.preload", "etc/localtime",
    "etc/locale.alias", "usr/lib/locale/locale-archive", "etc/gai.conf", "etc/host.conf",
)  # fmt: skip
PROGRAMS = ("tar", "xz", "zstd", "gzip", "unpigz", "newuidmap", "newgidmap", "getent", "mount",
            "slirp4netns", "pasta", "fuse-overlayfs", "python3")  # fmt: skip


def poisoned_layer() -> images.Layer:
    """busybox, and a FIFO wherever a program of the host might look for a file.

    Opening one blocks for ever: whoever looks anything up inside the
    container, in whatever way, hangs.
    """
    layer = images.busybox_layer()
    made: set[str] = set()

    def fifo(path: str) -> None:
        parents = Path(path).parents
        for parent in reversed([str(p) for p in parents][:-1]):
            if parent not in made and parent not in ("bin", "etc", "usr", "usr/bin"):
                layer.directory(parent)
                made.add(parent)
        if path not in made:
            layer.entry(path, tarfile.FIFOTYPE, mode=0o666)
            made.add(path)

    for directory in LIBRARIES:
        for name in SONAMES:
            fifo(f"{directory}/{name}")
    for name in CONFIGURATION:
        fifo(name)
    for name in PROGRAMS:
        fifo(f"usr/bin/{name}")
    for directory in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        if not (Path(directory) / "encodings").is_dir():
            continue  # a virtual environment has no library of its own
        for module in sys.stdlib_module_names:
            fifo(f"{directory.lstrip('/')}/{module}.py")
            tag = sys.implementation.cache_tag
            fifo(f"{directory.lstrip('/')}/__pycache__/{module}.{tag}.pyc")
        for name in os.listdir(Path(directory) / "encodings"):
            if name.endswith(".py"):
                fifo(f"{directory.lstrip('/')}/encodings/{name}")
        dynamic = Path(directory) / "lib-dynload"
        for name in os.listdir(dynamic) if dynamic.is_dir() else ():
            fifo(f"{directory.lstrip('/')}/lib-dynload/{name}")
    return layer


def test_cve_2019_14271_nothing_of_the_image_is_loaded_or_run(podpy: Podpy) -> None:
    image = podpy.load_layers("localhost/poisoned:latest", poisoned_layer())
    assert podpy("run", "--rm", *NONE, image, "echo", "ran", timeout=20).text == "ran"
    podpy.run_detached("--name", "c", *NONE, image, "sleep", "1000", timeout=20)
    assert podpy("exec", "c", "echo", "joined", timeout=20).text == "joined"
    # Errors are put into words inside the container: nothing may be looked up for them either.
    for options, command, code in (
        ((), "nothere", 127),
        ((), "/etc", 126),
        (("-w", "/nowhere"), "true", 127),
        (("-u", "nobodyhere"), "true", 125),
        (("-u", "gr\udcfcn"), "true", 125),
        (("-w", "/tmp/gr\udcfcn"), "true", 127),
    ):
        podpy.fails("exec", *options, "c", command, code=code, timeout=20)
        podpy.fails("run", "--rm", *NONE, *options, image, command, timeout=20,
                    code=0 if "-w" in options else code)  # fmt: skip
    shown = podpy.terminal("exec", "-it", "c", "echo", "at a terminal")
    shown.expect("at a terminal", timeout=20)


@pytest.mark.parametrize("kind", ["fifo", "huge", "loop", "directory", "device"])
def test_cve_2024_9676_a_user_database_that_is_no_file(podpy: Podpy, kind: str) -> None:
    """Refused at once: it neither blocks nor fills the memory."""
    layer = images.users_layer()
    if kind == "loop":
        layer.symlink("etc/passwd", "/etc/passwd")
    elif kind == "directory":
        layer.directory("etc/passwd")
    elif kind == "fifo":
        layer.entry("etc/passwd", tarfile.FIFOTYPE, mode=0o666)
    elif kind == "device":
        layer.symlink("etc/passwd", "/dev/zero")
    image = podpy.load_layers(f"localhost/{kind}:latest", layer)
    if kind == "huge":
        podpy.run_detached("--name", "c", *NONE, image, "sleep", "1000")
        podpy("exec", "c", "truncate", "-s", "5G", "/etc/passwd")
        done = podpy.fails("exec", "-u", "alice", "c", "id", timeout=10)
        podpy("exec", "c", "true", code=125)
    else:
        done = podpy.fails("run", "--rm", *NONE, "-u", "alice", image, "id", timeout=10)
    assert "/etc/passwd" in done.stderr
    assert "uid=" not in done.stdout


def test_a_user_database_behind_a_link_stays_inside(podpy: Podpy) -> None:
    """A link is followed as the container sees it; the host's accounts are nobody's here."""
    host = "evil:x:7:7::/:/bin/sh\n"
    secret = podpy.directory / "passwd"
    secret.write_text(host)
    layer = images.busybox_layer()
    layer.symlink("etc/passwd", f"../../../../../../..{secret}")
    layer.file("etc/group", "")
    image = podpy.load_layers("localhost/linked:latest", layer)
    podpy.fails("run", "--rm", *NONE, "-u", "evil", image, "id")
    inside = images.busybox_layer().symlink("etc/passwd", "/usr/passwd").file("usr/passwd", host)
    image = podpy.load_layers("localhost/inside:latest", inside)
    assert podpy("run", "--rm", *NONE, "-u", "evil", image, "id", "-u").text == "7"


def test_cve_2018_15664_filling_a_volume_stays_inside(podpy: Podpy) -> None:
    """The image's directory that a new volume is filled from is a link to the host's."""
    secret = podpy.directory / "secrets"
    secret.mkdir()
    (secret / "key").write_text("host secret")
    layer = images.busybox_layer().symlink("data", f"/../../../..{secret}")
    layer.directory("other").symlink("other/link", f"{secret}/key")
    image = podpy.load_layers("localhost/linked:latest", layer)
    for destination in ("/data", "/other"):
        done = podpy("run", "--rm", *NONE, "-v", destination, image,
                     "sh", "-c", f"cat {destination}/* {destination}/*/*", code=None)  # fmt: skip
        assert "host secret" not in done.stdout
    assert (secret / "key").read_text() == "host secret"
