"""Egress policies: containers that reach what is on their list, and nothing else.

Two parts work together, both in the network supervisor.  The resolver refuses
names that are not on the list (:meth:`Guard.may_ask`) and, before an answer
leaves, has its addresses put into the container's sets (:meth:`Guard.answered`).
The packet filter on the host's end of the container's interface
(:mod:`.ruleset`) lets through what the sets hold and refuses the rest.

Rules and sets stand in the kernel and survive this process; a new supervisor
finds them by name and leaves alone what is right.
"""

from __future__ import annotations

import _socket
import time

from podpy.errors import HostError, suppress
from podpy.kernel import nftables
from podpy.net import allowance, carriers, ruleset
from podpy.net.denials import Denials
from podpy.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from podpy.kernel.loop import Loop
    from podpy.net.allowance import Group
    from podpy.net.inner import Inner
    from podpy.net.ipam import Range
    from podpy.netmodel import Denial, Egress, Endpoint

_FLOOR, _CEILING = 60, 86400  # seconds that an address lives at least and at most
_ATTEMPTS = 3
_REMEMBERED = 2 * ruleset.ADDRESSES


@record
class Guarded:
    """A container with a policy: its table and the groups of its rules."""

    table: str
    groups: tuple[Group, ...]


class Guard:
    """The policies of all containers of this supervisor; sockets are opened by the first one."""

    def __init__(
        self, loop: Loop, inner: Inner, report: Callable[[str, tuple[Denial, ...]], None]
    ) -> None:
        self._inner = inner
        self._guarded: dict[str, Guarded] = {}
        self._ends: dict[str, dict[tuple[str, bytes], float]] = {}
        self._denials = Denials(loop, report)
        self._tables: nftables.Nftables | None = None

    def apply(
        self, container: str, plugs: Iterable[tuple[str, Endpoint]], policy: Egress,
        denied: Iterable[Denial] = (),
    ) -> None:  # fmt: skip
        """Put the policy in force on the interfaces ``(device, endpoint)`` of a container.

        Call it for each new device when it is the port of a bridge and not yet up,
        and when one has gone; devices that do not exist are passed over.  What
        stands already stays, with the addresses and connections that it knows.
        ``HostError`` when the kernel cannot do it.
        """
        groups = allowance.groups(policy)
        guarded = Guarded(table=ruleset.table(container, groups), groups=groups)
        try:
            self._put(container, guarded, list(self._plugs(plugs)))
        except OSError as error:
            raise _refusal(error) from None
        if container not in self._guarded:
            self._denials.begin(container, container[:12], denied)
        self._guarded[container] = guarded

    def _put(self, container: str, guarded: Guarded, plugs: Sequence[ruleset.Plug]) -> None:
        tables = self._open()
        batch = nftables.Batch(guarded.table)
        standing = self._tables_of(container)
        chains: list[str] = []
        if guarded.table in standing:
            chains = tables.chains(guarded.table)
        else:
            self._ends.pop(guarded.table, None)
            closed = self._closed(guarded.groups)
            ruleset.add_policy(batch, guarded.groups, closed, container[:12])
        ruleset.change_plugs(batch, chains, plugs)
        # What stood before goes last: until then both are in force.
        for name in standing:
            if name != guarded.table:
                batch.delete_table(name)
        try:
            tables.commit(batch)
        except OSError:
            if not chains and guarded.table in tables.tables():
                self._delete(guarded.table)  # a part of a policy is none
            raise

    def _closed(self, groups: Iterable[Group]) -> tuple[Range, ...]:
        """What no rule opens: also where the uplink's helper answers for itself.

        And the way to the host's loopback, unless a rule is about that alone.
        """
        host = self._subnets(carriers.HOST_DEVICE)
        listed = [each for group in groups for each in group.ranges]
        if any(each.is_within(subnet) for each in listed for subnet in host):
            host = ()
        return allowance.CLOSED + self._subnets(carriers.DEVICE) + host

    def _subnets(self, device: str) -> tuple[Range, ...]:
        index = self._inner.route.index(device)
        return allowance.ranges(*self._inner.route.subnets(index)) if index else ()

    def _plugs(self, plugs: Iterable[tuple[str, Endpoint]]) -> Iterator[ruleset.Plug]:
        """The plugs that are there, as the rules see them."""
        route = self._inner.route
        for device, endpoint in plugs:
            if index := route.index(device):
                yield ruleset.Plug(
                    device=device,
                    index=index,
                    mac=bytes.fromhex(endpoint.mac.replace(":", "")),
                    bridge_mac=route.bridge_of(index),
                    address=endpoint.address,
                    gateway=endpoint.gateway,
                    address6=endpoint.address6,
                    gateway6=endpoint.gateway6,
                )

    def last_words(self, container: str) -> None:
        """It ends: what it was refused, and what has not been reported, is reported now."""
        self._denials.flush(container)

    def withdraw(self, container: str) -> None:
        """Its devices are gone: forget a container and its rules."""
        gone = self._guarded.pop(container, None)
        if gone is not None:
            self._ends.pop(gone.table, None)
        self._denials.end(container)
        if self._tables is not None:  # it is None when the first policy could not be put in force
            for name in self._tables_of(container):
                self._delete(name)

    def sweep(self) -> None:
        """Remove what a supervisor before this one had and nobody came back for.

        The devices first: the container may live on.
        """
        mine = tuple(ruleset.prefix(container) for container in self._guarded)
        with suppress(OSError):  # a kernel without nf_tables has none of ours
            for name in self._open().tables():
                if ruleset.is_ours(name) and not name.startswith(mine):
                    self._cut_off(name)
                    self._delete(name)

    def _cut_off(self, table: str) -> None:
        """Remove the devices that a table is about."""
        route = self._inner.route
        for device in ruleset.devices(self._open().chains(table)):
            if index := route.index(device):
                route.remove_link(index)

    # --- what the resolver asks and tells ------------------------------------

    def concerns(self, container: str) -> bool:
        """Whether a container has a policy at all."""
        return container in self._guarded

    def may_ask(self, container: str, name: str) -> bool:
        """Whether a name is on the container's list; a refusal is counted."""
        guarded = self._guarded.get(container)
        if guarded is None:
            return True
        wanted = allowance.plain(name)
        if any(group.names(wanted) for group in guarded.groups):
            return True
        self._denials.add(container, wanted, protocol="dns")
        return False

    def answered(
        self, container: str, name: str, addresses: Iterable[str], ttl: int, *, local: bool = False
    ) -> None:
        """Open the addresses that a name has, for as long as the answer holds.

        They are open when this returns.  ``local``: the name is one of a network
        of podpy, and so are its addresses.
        """
        guarded = self._guarded.get(container)
        if guarded is None:
            return
        asked = allowance.plain(name)
        found = [allowance.parse(address) for address in addresses]
        if not local:
            own = allowance.ranges(*self._inner.route.subnets())
            found = [each for each in found if not allowance.is_within(own, each)]
        life = min(max(ttl, _FLOOR), _CEILING)
        for group in guarded.groups:
            if group.names(asked):
                opened = [each for each in found if local or group.may_open(asked, each)]
                self._fill(guarded.table, group, opened, life)

    def _fill(
        self, table: str, group: Group, addresses: Iterable[tuple[int, int]], life: int
    ) -> None:
        for family, number in addresses:
            key = number.to_bytes(4 if family == 4 else 16, "big")
            # As many as a container can have, or no memory for more: it stays shut.
            with suppress(OSError):
                self._renew(table, ruleset.names_set(group, family), key, life)

    def _renew(self, table: str, name: str, key: bytes, life: int) -> None:
        """Have an element live for so long; one that lives longer is left alone.

        One that is there is made anew: a kernel before 6.12 cannot renew it.
        """
        now = time.monotonic()
        ends = self._ends.setdefault(table, {})
        if ends.get((name, key), 0.0) >= now + life:
            return
        is_there = ends.get((name, key), 0.0) > now
        for _ in range(_ATTEMPTS):
            batch = nftables.Batch(table)
            if is_there:
                batch.delete_elements(name, [key])
            batch.add_elements(name, [key], seconds=life, new=True)
            try:
                self._open().commit(batch)
            except FileExistsError:  # a supervisor before us put it there
                is_there = True
            except FileNotFoundError:  # it has expired at this moment
                is_there = False
            else:
                ends[name, key] = now + life
                break
        if len(ends) > _REMEMBERED:
            self._ends[table] = {each: end for each, end in ends.items() if end > now}

    # --- the kernel ----------------------------------------------------------

    def _open(self) -> nftables.Nftables:
        if self._tables is None:
            made = self._socket()
            self._denials.listen(self._socket())
            self._tables = nftables.Nftables(made)
        return self._tables

    def _socket(self) -> _socket.socket:
        return self._inner.open(_socket.AF_NETLINK, _socket.SOCK_RAW, nftables.NETLINK_NETFILTER)

    def _tables_of(self, container: str) -> list[str]:
        prefix = ruleset.prefix(container)
        return [name for name in self._open().tables() if name.startswith(prefix)]

    def _delete(self, table: str) -> None:
        batch = nftables.Batch(table)
        batch.delete_table(table)
        self._open().commit(batch)


def _refusal(error: OSError) -> HostError:
    return HostError(
        f"--egress: this kernel's nf_tables refused the rules: {error.strerror}",
        hint="it takes Linux 5.16 or later with the modules nf_tables, nft_reject_netdev and"
        " nfnetlink_log (as root: modprobe -a nf_tables nft_reject_netdev nfnetlink_log)",
    )
