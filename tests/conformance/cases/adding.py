"""ADD: what COPY does, and archives."""

import bz2
import gzip
import io
import lzma
import tarfile

from support.dockerfiles import case
from support.images import EPOCH, Layer

SCRATCH = "FROM scratch"
BUSYBOX = "FROM localhost/busybox"


def archive() -> bytes:
    layer = Layer().directory("top", 0o750).file("top/f", "f\n", 0o640, uid=3, gid=4)
    layer.symlink("top/l", "f").hardlink("top/h", "top/f", mode=0o640, uid=3, gid=4).file(
        "./dotted", "d\n"
    )
    return layer.file("top/deep/er/x", "x\n", mtime=EPOCH + 7).bytes()


def gnu() -> bytes:
    """What tar writes by default, with names that need its own extension."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("short", "l" * 150):
            info = tarfile.TarInfo(name)
            info.mtime = EPOCH
            tar.addfile(info)
    return buffer.getvalue()


TAR = archive()

CASES = (
    case("add-file", SCRATCH, "ADD a /", files={"a": "a"}),
    case("add-directory", SCRATCH, "ADD d /d", files={"d/a": "a", "d/e/b": "b"}),
    case("add-exec-form", SCRATCH, 'ADD ["a b", "/x/"]', files={"a b": "a"}),
    case("add-star", SCRATCH, "ADD *.txt /x/", files={"1.txt": "1", "2.txt": "2", "3": "3"}),
    case("add-tar", SCRATCH, "ADD a.tar /x", files={"a.tar": TAR}),
    case("add-tar-slash", SCRATCH, "ADD a.tar /x/", files={"a.tar": TAR}),
    case("add-tar-to-root", SCRATCH, "ADD a.tar /", files={"a.tar": TAR}),
    case("add-tar-gz", SCRATCH, "ADD a.tgz /x/", files={"a.tgz": gzip.compress(TAR, mtime=0)}),
    case("add-tar-bz2", SCRATCH, "ADD a.tar.bz2 /x/", files={"a.tar.bz2": bz2.compress(TAR)}),
    case("add-tar-xz", SCRATCH, "ADD a.tar.xz /x/", files={"a.tar.xz": lzma.compress(TAR)}),
    case("add-tar-by-content-not-by-name", SCRATCH, "ADD archive /x/",
         files={"archive": gzip.compress(TAR, mtime=0)}),
    case("add-no-tar-by-content-not-by-name", SCRATCH, "ADD a.tar /x/", files={"a.tar": "no tar"}),
    case("add-gz-of-no-tar", SCRATCH, "ADD a.gz /x/",
         files={"a.gz": gzip.compress(b"text\n", mtime=0)}),
    case("add-gnu-tar", SCRATCH, "ADD a.tar /x/", files={"a.tar": gnu()}),
    case("add-two-tars", SCRATCH, "ADD a.tar b.tar /x/",
         files={"a.tar": TAR, "b.tar": Layer().file("top/f", "newer\n").file("other", "o\n")}),
    case("add-tar-and-file", SCRATCH, "ADD a.tar f /x/", files={"a.tar": TAR, "f": "f"}),
    case("add-tar-over-tree", BUSYBOX, "ADD a.tar /",
         files={"a.tar": Layer().file("etc/passwd", "new\n")}),
    case("add-tar-chown", SCRATCH, "ADD --chown=8:9 a.tar /x/", files={"a.tar": TAR},
         tree={"x/top/f": {"owner": (8, 9)}, "x/top/l": {"owner": (8, 9)},
         "x/top": {"owner": (8, 9)}}),
    case("add-tar-in-directory-stays", SCRATCH, "ADD d /d", files={"d/a.tar": TAR}),
    case("add-empty-tar", SCRATCH, "ADD a.tar /x/", files={"a.tar": Layer()}),
    case("copy-tar-stays", SCRATCH, "COPY a.tar /x/", files={"a.tar": TAR}),
    case("add-tar-with-symlinked-directory", SCRATCH, "ADD a.tar /x/",
         files={"a.tar": Layer().directory("r").symlink("l", "r").file("r/f", "f")}),
    case("add-relative-to-workdir", BUSYBOX, "WORKDIR /srv", "ADD a.tar .", "ADD f ./f2",
         files={"a.tar": TAR, "f": "f"}),
)  # fmt: skip
