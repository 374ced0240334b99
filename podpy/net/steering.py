"""Answers to clients that were shown with their own address, turned to this host.

Where a relay (:mod:`.forward`) speaks to a container under a client's address,
the container's answers are for an address elsewhere.  A routing rule catches
them, and only them: what comes from a published port of a container's
address.  Its table delivers everything locally, to the relay's socket.
Destinations on the bridges themselves are thrown back to the usual rules:
there a container answers a container.
"""

from __future__ import annotations

import _socket

from podpy.errors import suppress
from podpy.kernel import netlink
from podpy.kernel.netlink import Rule
from podpy.net import addressing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.kernel.netlink import Route
    from podpy.netmodel import PortMapping

TABLE = 9000
PRIORITY = 9000  # before the rules of the bridges
_PROTOCOLS = {"tcp": _socket.IPPROTO_TCP, "udp": _socket.IPPROTO_UDP}


class Steering:
    """The rules, each as long as somebody needs it.  Rules of a predecessor count as ours."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._users: dict[Rule, int] = {}
        self._families: set[int] = set()

    def add(self, address: str, mapping: PortMapping) -> Rule:
        rule = _rule(self._route.interface_to(address), address, mapping)
        self._users[rule] = self._users.get(rule, 0) + 1
        self._prepare(rule.family)
        if self._users[rule] == 1:
            with suppress(FileExistsError):
                self._route.add_rule(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        self._users[rule] -= 1
        if not self._users[rule]:
            del self._users[rule]
            self._route.remove_rule(rule)

    def _prepare(self, family: int) -> None:
        """The table, with the subnets as they are now."""
        if family not in self._families:
            self._families.add(family)
            with suppress(FileExistsError):
                self._route.add_route(
                    addressing.EVERYTHING[family],
                    index=netlink.LOOPBACK_INDEX,
                    table=TABLE,
                    kind=netlink.RTN_LOCAL,
                )
        for subnet in self._route.subnets():
            if addressing.family(subnet) == family:
                with suppress(OSError):  # there already, or of a kind that cannot be thrown
                    self._route.add_route(subnet, table=TABLE, kind=netlink.RTN_THROW)


def _rule(interface: str, address: str, mapping: PortMapping) -> Rule:
    """For what comes by the container's own bridge: on another anybody could claim its address."""
    return Rule(
        family=addressing.family(address),
        table=TABLE,
        priority=PRIORITY,
        interface=interface,
        source=address,
        protocol=_PROTOCOLS[mapping.protocol],
        source_port=mapping.container_port,
    )
