"""The ports of EXPOSE: ``[[address:]host:]port[-port][/protocol]``."""

from __future__ import annotations

from podpy.build.diagnostics import Problem

_PROTOCOLS = ("tcp", "udp", "sctp")


def keys(text: str) -> list[str]:
    """``80``, ``80-82/udp`` as the keys of ``ExposedPorts``.  Raises :class:`Problem`.

    Address and port of the host are for ``run -p`` alone: they are checked and left out.
    """
    outer, _, inner = text.rpartition(":")
    numbers, slash, protocol = inner.partition("/")
    first, last = _range(numbers, text)
    if outer:
        _check_host(outer, last - first, text)
    protocol = protocol.lower()
    if (slash or protocol) and protocol not in ("", *_PROTOCOLS):
        raise _problem(text, f"{protocol!a} is no protocol")
    return [f"{number}/{protocol or 'tcp'}" for number in range(first, last + 1)]


def _range(numbers: str, text: str) -> tuple[int, int]:
    first, dash, last = numbers.partition("-")
    for number in (first, last) if dash else (first,):
        if not (number.isascii() and number.isdigit() and len(number) < 6):
            raise _problem(text, "not a port")
    low, high = int(first), int(last or first)
    if not 0 < low <= high < 65536:
        raise _problem(text, "not a port" if low == high else "not a range of ports")
    return low, high


def _check_host(outer: str, span: int, text: str) -> None:
    address, _, numbers = outer.rpartition(":")
    if numbers:
        first, last = _range(numbers, text)
        if span not in (0, last - first):
            raise _problem(text, "the ranges differ in length")
    if address:
        import ipaddress

        try:
            ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
        except ValueError:
            raise _problem(text, f"{address!a} is no address") from None


def _problem(text: str, reason: str) -> Problem:
    return Problem(
        f"EXPOSE {text}: {reason}", at=text, hint="PORT, FIRST-LAST, with /tcp, /udp or /sctp"
    )
