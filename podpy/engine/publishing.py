"""Ports that a container exposes and publishes."""

from __future__ import annotations

from podpy.engine import values
from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podpy.engine.options import ContainerOptions
    from podpy.netmodel import PortMapping

    Parse = Callable[[str], tuple[PortMapping, ...]]

#: Kinds of network where no port can be published.
UNPUBLISHED = ("none", "host", "ns")


def ports(
    options: ContainerOptions, kind: str, exposed: Iterable[str], parse: Parse
) -> tuple[PortMapping, ...]:
    """``--publish`` and ``--publish-all``, for a container on a network of that kind."""
    found = tuple(mapping for text in options.publish for mapping in parse(text))
    if options.publish_all:
        found += _all_exposed(exposed, found, parse)
    if kind in UNPUBLISHED:
        return ()  # there is nothing to publish to: docker and podman warn and go on
    return found


def exposed(given: Iterable[str], image: Iterable[str]) -> tuple[str, ...]:
    """Ports of the image and of ``--expose``, as single ``port/protocol``."""
    sane = (text for text in image if text not in strange_ports((text,)))
    every = [port for text in (*sane, *given) for port in _each_port(text)]
    return tuple(dict.fromkeys(every))


def strange_ports(image: Iterable[str]) -> tuple[str, ...]:
    """What an image exposes and is no port.  Whoever runs it cannot help that: it is left out."""
    found = []
    for text in image:
        try:
            _each_port(text)
        except UsageError:
            found.append(text)
    return tuple(found)


def _each_port(text: str) -> list[str]:
    """``PORT[-PORT][/PROTOCOL]``."""
    numbers, _, protocol = text.lower().partition("/")
    first, _, last = numbers.partition("-")
    low = values.integer(first, "--expose", lowest=1, highest=65535)
    high = values.integer(last or first, "--expose", lowest=low, highest=65535)
    if (protocol or "tcp") not in ("tcp", "udp", "sctp"):
        raise UsageError(f"--expose: invalid protocol in {text!r}", hint="tcp, udp or sctp")
    return [f"{port}/{protocol or 'tcp'}" for port in range(low, high + 1)]


def _all_exposed(
    exposed: Iterable[str], published: Iterable[PortMapping], parse: Parse
) -> tuple[PortMapping, ...]:
    """``--publish-all``: a random host port for each exposed one that ``-p`` did not name."""
    done = {
        f"{port}/{m.protocol}"
        for m in published
        for port in range(m.container_port, m.container_port + m.count)
    }
    return tuple(m for text in exposed if text not in done for m in parse(text))
