"""One tap device of the shared namespace and the helper program that serves it.

The device, its address and the routes by it stand by themselves, so a helper
that dies is replaced without anybody noticing but those who talked through it.
A small record tells which helper it is: a network supervisor that takes over
goes on with a helper that lives.
"""

from __future__ import annotations

import _signal
import os
import select
import time

from podpy import files
from podpy.errors import HostError, PodpyError, suppress
from podpy.kernel import process
from podpy.kernel.loop import IN
from podpy.model import ProcessIdentity
from podpy.net import carriers, slirp
from podpy.net.helper import locate
from podpy.records import from_dict, record, to_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from podpy.kernel.loop import Loop
    from podpy.net.carriers import Carrier
    from podpy.net.helper import Helper
    from podpy.net.inner import Inner

_SHORT = 2.0  # seconds: a helper that lived for less has not proved itself
_PATIENCE = 3  # as many of them are replaced at once, the next after a pause
_PAUSE = 1.0
_KILL = 2.0


@record
class Left:
    """Which helper serves a device, for the supervisor after us."""

    kind: str
    settings: slirp.Settings
    process: ProcessIdentity
    _nested = {"settings": slirp.Settings, "process": ProcessIdentity}


class Line:
    """A device and its helper, which lives for as long as somebody holds ``life_line``.

    ``up`` is called whenever the helper is ready, ``down`` whenever it has
    ended; ``place`` is the path of the record.
    """

    def __init__(
        self, loop: Loop, inner: Inner, carrier: Carrier, place: str, life_line: int, *,
        up: Callable[[], None] = lambda: None, down: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.carrier = carrier
        self.index = 0
        self.pid = 0
        self.failure: PodpyError | None = None
        self._loop = loop
        self._inner = inner
        self._place = place
        self._life_line = life_line
        self._up = up
        self._down = down
        self._helper: Helper | None = None  # one that is not ready yet
        self._pidfd = -1
        self._since = 0.0
        self._deaths = 0

    def start(self, left: Left | None) -> None:
        """Make the device and start the helper, or go on with the one that was left.

        Does not wait and does not fail: :meth:`wait` tells.
        """
        self._loop.cancel(self)
        self.failure = None
        try:
            self._make_device()
            if not (left and self._adopt(left.process)):
                self._spawn()
            self._configure_device()  # while the helper gets ready
        except (PodpyError, OSError) as error:
            self.failure = told(error)
            if self._since:  # it has worked before
                self._loop.later(_PAUSE, lambda: self.start(None), key=self)

    def wait(self) -> None:
        """Return when the helper serves the device; :class:`HostError` when it cannot."""
        if self.failure is not None and self._pidfd < 0 and self._helper is None:
            self.start(None)
        if self._helper is not None:
            self._arrive()
        if self.failure is not None:
            raise self.failure

    def replace(self) -> None:
        """Have another helper, which follows the end of this one: it may not answer any more."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                _signal.pidfd_send_signal(self._pidfd, _signal.SIGKILL)

    def close(self) -> None:
        """Leave the helper to itself."""
        self._loop.cancel(self)
        if self._helper is not None:
            self._loop.forget(self._helper.ready_fd)
            self._helper.stop()
            self._helper = None
        if self._pidfd >= 0:
            self._forget_process()

    # --- the device ----------------------------------------------------------

    def _make_device(self) -> None:
        name = self.carrier.name
        locate(name, "slirp4netns" if name == "pasta" else "pasta")
        self._inner.make_tap(self.carrier.device)
        self.index = self._inner.route.index(self.carrier.device)

    def _configure_device(self) -> None:
        """What stands already stays."""
        carrier, inner, route = self.carrier, self._inner, self._inner.route
        # The helper's router advertisements would bring a prefix of its own.
        try:
            for sysctl in ("accept_ra", "accept_dad", "disable_ipv6"):
                inner.sysctl(f"ipv6/conf/{carrier.device}/{sysctl}", "0")
        except OSError:  # a kernel without IPv6
            carrier.has_ipv6 = False
        route.set_mtu(self.index, carrier.settings.mtu)
        for address, prefix in carrier.addresses():
            with suppress(FileExistsError):
                route.add_address(self.index, address, prefix)
        route.set_up(self.index)
        carrier.prepare(inner)

    # --- the helper ----------------------------------------------------------

    def _spawn(self) -> None:
        self._since = time.monotonic()
        # On record at once: one that nobody knows of would keep the device from its successors.
        self._helper = self.carrier.start(self._inner, self._life_line, self._write_record)
        self._loop.watch(self._helper.ready_fd, IN, lambda _fd, _events: self._arrive())

    def _arrive(self) -> None:
        """The helper has said that it is ready, or is waited for."""
        helper, self._helper = self._helper, None
        assert helper is not None
        self._loop.forget(helper.ready_fd)
        try:
            helper.wait_ready()
        except HostError as error:
            self._fail(error)
            return
        self.failure = None
        self._watch_process(helper.pid, os.pidfd_open(helper.pid))
        self._up()

    def _fail(self, error: PodpyError) -> None:
        self.failure = error
        self._loop.later(_PAUSE, lambda: self.start(None), key=self)

    def _watch_process(self, pid: int, pidfd: int) -> None:
        self.pid, self._pidfd = pid, pidfd
        self._loop.watch(pidfd, IN, lambda _fd, _events: self._died())

    def _forget_process(self) -> None:
        self._loop.forget(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        with suppress(ChildProcessError):  # adopted: its parent is another
            os.waitpid(self.pid, os.WNOHANG)
        self.pid = 0

    def _died(self) -> None:
        self._forget_process()
        self._down()
        is_short = time.monotonic() - self._since < _SHORT
        self._deaths = self._deaths + 1 if is_short else 1
        if self._deaths > _PATIENCE:
            self._fail(HostError(f"network {self.carrier.name}: the helper ends again and again"))
            return
        try:
            self._spawn()
        except (PodpyError, OSError) as error:
            self._fail(told(error))

    # --- takeover ------------------------------------------------------------

    def _write_record(self, pid: int) -> None:
        left = Left(
            kind=self.carrier.name,
            settings=self.carrier.settings,
            process=process.identity(pid),
        )
        with suppress(OSError):  # a full disk: there will be no takeover, that is all
            files.write_json(self._place, to_dict(left))

    def _adopt(self, who: ProcessIdentity) -> bool:
        """Go on with a helper that lives; False when there is none."""
        pidfd = process.open_pidfd(who)
        if pidfd < 0:
            return False
        if not self.carrier.answers():
            _end(pidfd)
            return False
        self._watch_process(who.pid, pidfd)
        return True


def left(place: str) -> Left | None:
    """What the supervisor before us has written of a helper."""
    try:
        return from_dict(Left, files.read_json(place))
    except (OSError, PodpyError, TypeError, KeyError):
        return None


def end_stale(place: str) -> None:
    """End the helper of a namespace that nobody holds any more, for it may hold ports."""
    found = left(place)
    if found is not None and (pidfd := process.open_pidfd(found.process)) >= 0:
        _end(pidfd)
    files.unlink(place)


def told(error: PodpyError | OSError) -> PodpyError:
    """An error of the uplink as one to tell."""
    if isinstance(error, PodpyError):
        return error
    return HostError(f"the uplink of the bridge networks: {error.strerror or error}")


def _end(pidfd: int) -> None:
    """Kill a helper, and wait until its ports are free."""
    try:
        with suppress(ProcessLookupError):
            _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(_KILL * 1000)
    finally:
        os.close(pidfd)


#: The names that records of devices have in the supervisor's directory.
RECORDS = {carriers.DEVICE: "uplink.json", carriers.HOST_DEVICE: "host.json"}
