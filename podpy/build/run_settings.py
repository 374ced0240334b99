"""What a build's options say about all of its commands."""

from __future__ import annotations

from podpy.records import EMPTY, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from podpy.build.secrets import Secret
    from podpy.build.ssh import Agent
    from podpy.model import ContainerRecord
    from podpy.runtime.birth import Network

NETWORK_HOST = "network.host"


@record
class Settings:
    """What the build's options say about all commands.

    ``template`` is the record of a container with the rights, limits, mounts
    and names of a step; argv, environment, user and directory come from the
    instruction.  ``driver`` makes the driver of a record's network, with a
    directory for its use.  ``limits`` are settings of the step's cgroup.
    ``isolation`` is ``oci`` or ``chroot``.  ``stdin`` gives commands podpy's own.
    ``allowed`` says which ``RUN --device`` are allowed: names, or ``*`` for all; with
    :data:`NETWORK_HOST` in it, ``RUN --network=host`` is, too.
    """

    template: ContainerRecord
    driver: Callable[[ContainerRecord, str], Network | None]
    cgroup_manager: str = ""
    limits: Mapping[str, str] = EMPTY
    isolation: str = "oci"
    stdin: bool = False
    allowed: frozenset[str] = frozenset()
    secrets: Mapping[str, Secret] = EMPTY
    agents: Mapping[str, Agent] = EMPTY
