"""The network helpers as the launch sees them: started beside the mounts, awaited before GO."""

from __future__ import annotations

from podpy.net import ports, slirp
from podpy.runtime.launch import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from podpy.model import PortMapping
    from podpy.net.helper import Helper
    from podpy.net.ports import Assignment, Holder


class Slirp(Network):
    """slirp4netns with its published ports."""

    def __init__(
        self,
        settings: slirp.Settings,
        mappings: Sequence[PortMapping],
        *,
        api_socket: str,
        holder: Holder | None = None,
    ) -> None:
        self._settings = settings
        self._mappings = tuple(mappings)
        self._api_socket = api_socket if mappings else ""
        self._holder = holder
        self._helper: Helper | None = None
        self._assignment: Assignment | None = None

    def start(self, pid: int) -> None:
        slirp.check_publishable(self._mappings)
        self._assignment = ports.assign(self._mappings, holder=self._holder)
        self._helper = slirp.start(pid, self._settings, api_socket=self._api_socket)

    def wait(self) -> tuple[PortMapping, ...]:
        assert self._helper is not None and self._assignment is not None
        self._helper.wait_ready()
        self._assignment.hand_over()
        for mapping in self._assignment.mappings:
            slirp.publish(self._api_socket, mapping, holder=self._holder)
        self._assignment.close()
        return self._assignment.mappings

    def stop(self) -> None:
        if self._assignment:
            self._assignment.close()
        if self._helper:
            self._helper.stop()

    def facts(self) -> dict[str, Any]:
        assert self._helper is not None
        return {"helpers": [self._helper.pid], "keep": [self._helper.exit_fd]}
