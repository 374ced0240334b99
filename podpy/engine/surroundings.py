"""What the options of a container are read against."""

from __future__ import annotations

from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from podpy.engine.namespaces import Ranges
    from podpy.model import ContainerRecord
    from podpy.netmodel import Network, PortMapping


@record
class Surroundings:
    """What the options are read against: the caller, the host, the other containers.

    ``lookup`` turns the name of a container into its record, ``find_network`` that
    of a network; ``ranges`` and ``taken`` are those of
    :func:`podpy.engine.namespaces.user`.
    """

    id: str
    now: float
    cwd: str
    env: Mapping[str, str]
    hostname: str
    ids: tuple[int, int]
    command_line: tuple[str, ...] = ()
    lookup: Callable[[str], ContainerRecord]
    ranges: Callable[[str], tuple[Ranges, Ranges]]
    taken: Callable[[], tuple[Ranges, Ranges]]
    find_network: Callable[[str], Network]
    parse_port: Callable[[str], tuple[PortMapping, ...]]
    new_volume: Callable[[], str]
