"""A container as the network supervisor knows it."""

from __future__ import annotations

import _socket
import marshal
import os
from binascii import crc32

from podpy import files
from podpy.errors import suppress
from podpy.kernel import netlink, packets
from podpy.netmodel import Attachment, Denial, Egress, Endpoint, Network, PortMapping
from podpy.records import from_dict, replace, to_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from podpy.net.client import Registration


class Member:
    """One container: its connection, its descriptors and what it has on its networks."""

    def __init__(self, channel: _socket.socket, told: Registration, fds: Sequence[int]) -> None:
        self.channel = channel
        self.container = told.container
        self.told = told
        self.netns = fds[0]
        self.route = netlink.Route(_socket.socket(fileno=fds[1]))
        self.endpoints: tuple[Endpoint, ...] = tuple(
            from_dict(Endpoint, each) for each in told.endpoints
        )
        self.ports: tuple[PortMapping, ...] = tuple(
            from_dict(PortMapping, each) for each in told.ports
        )
        self.waiting: list[_socket.socket] = []

    @property
    def wanted(self) -> list[tuple[Network, Attachment]]:
        """The networks it is to be on, in the order of its interfaces."""
        return [
            (from_dict(Network, each["network"]), from_dict(Attachment, each["attachment"]))
            for each in self.told.networks
        ]

    def want(self, network: Network, attachment: Attachment | None) -> None:
        """Remember one network more, or (without attachment) one less, for its return."""
        kept = [each for each in self.told.networks if each["network"]["name"] != network.name]
        if attachment is not None:
            kept.append({"network": to_dict(network), "attachment": to_dict(attachment)})
        self.told = replace(self.told, networks=tuple(kept))

    def move(self, before: Endpoint, after: Endpoint) -> Endpoint:
        """It has other addresses on one of its networks: ``after``."""
        self.endpoints = tuple(after if each == before else each for each in self.endpoints)
        return after

    def free_interface(self, wanted: str) -> str:
        """The name of the next interface inside."""
        taken = {each.interface for each in self.endpoints}
        if wanted:
            return wanted
        return next(f"eth{n}" for n in range(len(taken) + 1) if f"eth{n}" not in taken)

    @property
    def name(self) -> str:
        return self.told.name

    @property
    def reached_at(self) -> tuple[str, str]:
        """Where published ports lead to: the first address of each family, or nowhere.

        On a network that has a way out, where there is one: the answers take that.
        """
        internal = {network.name for network, _ in self.wanted if network.internal}
        ordered = sorted(self.endpoints, key=lambda endpoint: endpoint.network in internal)
        return (
            next((e.address for e in ordered if e.address), ""),
            next((e.address6 for e in ordered if e.address6), ""),
        )

    @property
    def egress(self) -> Egress | None:
        return None if self.told.egress is None else from_dict(Egress, self.told.egress)

    @property
    def denied(self) -> tuple[Denial, ...]:
        """What its policy has refused so far."""
        return tuple(from_dict(Denial, each) for each in self.told.denied)

    def refuse(self, denied: Sequence[Denial]) -> None:
        """Note what its policy has refused, and tell its supervisor."""
        self.told = replace(self.told, denied=tuple(map(to_dict, denied)))
        self.push(denied=tuple(denied))

    def device(self, interface: str) -> str:
        """The host's end of an interface; the same name after a takeover."""
        number = interface.removeprefix("eth")
        if not (number.isdigit() and len(number) < 4):
            number = f"{crc32(interface.encode()) & 0xFFFFF:05x}"
        return f"v{self.container[:8]}.{number}"  # at most 15 characters (IFNAMSIZ)

    def resume(self) -> str:
        """The packet that it shall come back with."""
        told = replace(
            self.told,
            endpoints=tuple(map(to_dict, self.endpoints)),
            ports=tuple(map(to_dict, self.ports)),
        )
        return files.dumps({"do": "resume", "registration": to_dict(told)})

    def push(self, fds: Sequence[int] = (), **state: Any) -> None:
        """Tell its supervisor what has changed; one that does not listen is not waited for."""
        told = {"state": to_dict(state), "resume": self.resume().encode()}
        with suppress(OSError):
            packets.send(self.channel, marshal.dumps(told), fds, _socket.MSG_DONTWAIT)

    def close(self) -> None:
        self.channel.close()
        self.close_namespace()

    def close_namespace(self) -> None:
        """Let go of the container's namespace, which could not be given all it asked for."""
        self.route.close()
        os.close(self.netns)
