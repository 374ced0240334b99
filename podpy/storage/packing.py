"""Writing tar archives, with headers of one fixed form: the same input gives the same bytes."""

from __future__ import annotations

from podpy import files
from podpy.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_BLOCK = 512
_OCTAL_LIMIT = 8**11


class TarWriter:
    """Writes members to a descriptor that need not seek; call :meth:`finish` at the end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def add(self, name: str, data: bytes) -> None:
        """A small file."""
        self.stream(name, len(data), (data,))

    def stream(self, name: str, size: int, pieces: Iterable[bytes]) -> None:
        """A file of exactly ``size`` bytes that come in pieces."""
        files.write_all(self._fd, header(name, size))
        left = size
        for piece in pieces:
            left -= len(piece)
            if left < 0:
                break
            files.write_all(self._fd, piece)
        if left:
            raise ImageError(f"archive: {name}: not the {size} bytes that were announced")
        files.write_all(self._fd, bytes(-size % _BLOCK))

    def directory(self, name: str) -> None:
        files.write_all(self._fd, header(f"{name}/", 0, kind=b"5", mode=0o755))

    def finish(self) -> None:
        files.write_all(self._fd, bytes(2 * _BLOCK))


def header(name: str, size: int, *, kind: bytes = b"0", mode: int = 0o444) -> bytes:
    """A ustar header of root's, dated at the epoch; sizes above 8 GiB in base 256 as GNU does."""
    raw = name.encode()
    if len(raw) > 100:
        raise ImageError(f"archive: a member's name is too long: {name!a}")
    length = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    block = b"".join(
        (
            raw.ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"0000000\0" * 2,
            length,
            b"00000000000\0",
            b" " * 8,
            kind,
            bytes(100),
            b"ustar\x0000",
            bytes(64),
            b"0000000\0" * 2,
        )
    ).ljust(_BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
