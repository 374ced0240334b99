"""M and I: the two processes between the host and the container's command.

M makes the namespaces, mounts the root file system, forks I and ends.  I is
the container's pid 1: it mounts the rest, pivots, gives up its privileges and
executes the command.  Both run on what the plan holds: between ``fork`` and
``execve`` nothing is imported, looked up or read from the container but its
user database, which :mod:`podpy.runtime.users` parses.

Neither ever executes a program: an address space made inside the container's
user namespace would belong to that namespace, and container root could write
to it.
"""

from __future__ import annotations

import _signal
import errno
import fcntl
import os
import resource
import stat
import struct

from podpy.errors import CannotInvoke, CommandNotFound, LaunchError
from podpy.kernel import libc, mounts, netlink, process, seccomp
from podpy.model import DEFAULT_PATH
from podpy.runtime import channel, credentials, users
from podpy.runtime.rootmount import RootMount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from podpy.model import ProcessIdentity
    from podpy.runtime.channel import Channel
    from podpy.runtime.spec import Plan, Process
    from podpy.runtime.stubs import Survey

# ioctl_tty(2): numbers that the termios module does not have.
TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441
TIOCSCTTY = 0x540E
_PTMX = os.makedev(5, 2)
_KEYRING = "_podpy"


class Steps:
    """What is being done, so that an error can say what it broke off."""

    def __init__(self) -> None:
        self.current = "start"

    def __call__(self, name: str) -> None:
        self.current = name


def make_container(plan: Plan, inner: Channel, stdio: tuple[int, int, int]) -> int:
    """The whole life of M; ``stdio`` are the payload's descriptors (-1: the terminal)."""
    steps = Steps()
    try:
        _make_namespaces(plan, inner, steps)
        steps("make mounts private")
        libc.mount(None, "/", None, libc.MS_REC | libc.MS_SLAVE)
        steps(f"open the root file system ({plan.rootfs.kind})")
        rootfs = RootMount(plan.rootfs)
        prepared = _prepare(plan, steps)
        _become_root(plan, steps)
        if plan.loopback:
            _trust_addresses()
        steps(f"mount the root file system ({plan.rootfs.kind})")
        root = rootfs.mount()
        steps("make a pid namespace")
        # Not earlier: the first child after this is its pid 1, and fuse-overlayfs is a child too.
        libc.unshare(plan.namespaces.new & libc.CLONE_NEWPID)
        pid = process.fork_child(lambda: _first_process(plan, root, prepared, inner, stdio))
        inner.send(channel.FORKED, pid)
    except BaseException as error:
        inner.fail(steps.current, error)
        return 125
    return 0


# --- M -----------------------------------------------------------------------


def _make_namespaces(plan: Plan, inner: Channel, steps: Steps) -> None:
    wanted = plan.namespaces
    if wanted.network:
        # First of all: a caller with power over it loses that with his user namespace.
        steps(f"join the network namespace {wanted.network.path}")
        wanted.network.join()
    joins = [(_pidfd(who), flags) for who, flags in wanted.join]
    if wanted.join:
        # From the first setns on, the container's other processes could attach to us.
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
    # User first: whoever owns it may join and make the others (user_namespaces(7)).
    for fd, flags in sorted(joins, key=lambda j: not j[1] & libc.CLONE_NEWUSER):
        steps("join namespaces")
        libc.setns(fd, flags)
        os.close(fd)
    steps("make namespaces")
    libc.unshare(wanted.new & ~(libc.CLONE_NEWCGROUP | libc.CLONE_NEWPID))
    if plan.bridged:
        # Neighbours may not lead our packets: no bridge of ours has a router that advertises.
        _write_default("accept_ra", b"0")
    handed = _handed_namespaces(plan)
    inner.send(channel.UNSHARED, fds=handed)
    for fd in handed:
        os.close(fd)
    inner.expect(channel.MAPPED)
    if wanted.new & libc.CLONE_NEWCGROUP:
        # Only now: the root of a cgroup namespace is the cgroup we are in.
        libc.unshare(libc.CLONE_NEWCGROUP)


def _pidfd(who: ProcessIdentity) -> int:
    fd = process.open_pidfd(who)
    if fd < 0:
        raise LaunchError("join namespaces: the container that lends them has stopped")
    return fd


def _become_root(plan: Plan, steps: Steps) -> None:
    steps("become root in the user namespace")
    changed = (os.geteuid(), os.getegid()) != (0, 0)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    if changed and not plan.namespaces.is_guest:
        # A change of uid clears dumpable, and the network helper opens our namespaces.
        libc.prctl(libc.PR_SET_DUMPABLE, 1)
    libc.prctl(libc.PR_SET_PDEATHSIG, _signal.SIGKILL)


def _trust_addresses() -> None:
    """IPv6 addresses of the new network namespace can be used at once.

    The kernel asks for a second or two whether a neighbour has the same one;
    those that helpers and bridges give are nobody else's.  Before the helper
    starts: a device takes this setting over when it is made.
    """
    _write_default("accept_dad", b"0")


def _write_default(setting: str, value: bytes) -> None:
    """Set what IPv6 devices of the new network namespace begin with."""
    try:
        fd = os.open(f"/proc/sys/net/ipv6/conf/default/{setting}", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:  # a kernel without IPv6
        return
    try:
        os.write(fd, value)
    finally:
        os.close(fd)


def _handed_namespaces(plan: Plan) -> tuple[int, ...]:
    """What S needs of our namespaces and cannot open itself.

    For bridge networks the network namespace and an rtnetlink socket of it; for a
    helper, when we are not dumpable, the user and the network namespace.
    """
    if plan.bridged:
        return (_open_namespace("net"), netlink.open_socket().detach())
    if plan.namespaces.is_guest and plan.namespaces.new & libc.CLONE_NEWNET:
        return (_open_namespace("user"), _open_namespace("net"))
    return ()


def _open_namespace(kind: str) -> int:
    return os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def _prepare(plan: Plan, steps: Steps) -> list[tuple[int, ...]]:
    """Open everything that comes from the host, while we still are the caller there."""
    found = []
    for operation in plan.operations:
        steps(operation.describe())
        found.append(operation.prepare())
    return found


# --- I -----------------------------------------------------------------------


def _first_process(
    plan: Plan,
    root: int,
    prepared: list[tuple[int, ...]],
    inner: Channel,
    stdio: tuple[int, int, int],
) -> int:
    steps = Steps()
    try:
        os.setsid()
        _set_up_kernel_objects(plan, steps)
        set_oom_score(plan.process, steps)
        survey = _survey(root, plan.surveyed)
        for operation, opened in zip(plan.operations, prepared, strict=True):
            steps(operation.describe())
            operation.execute(root, opened)
        made = survey.finish() if survey else ""
        if plan.tty:
            steps("open a terminal")
            stdio = _open_terminal(root, inner)
        for operation in plan.late_operations:
            steps(operation.describe())
            operation.execute(root)
        steps(f"find user {plan.process.user or 'root'}")
        who = users.resolve(root, plan.process.user, plan.process.groups)
        for target in plan.owned:
            steps(f"give {target} to user {who.uid}:{who.gid}")
            mounts.own_tree(root, target, who.uid, who.gid)
        _enter_root(root, plan, steps)
        inner.send(channel.READY, who.home, made)
        inner.expect(channel.GO)
        if plan.recorder:
            steps("load the filter for records of owners")
            listener = seccomp.load_with_listener(plan.recorder)
            inner.send(channel.LISTENER, who.uid, who.gid, fds=(listener,))
            os.close(listener)
        execute(plan.process, who, stdio, steps, tty=plan.tty)
    except BaseException as error:
        inner.fail(steps.current, error)
    return 125


def _survey(root: int, targets: tuple[str, ...]) -> Survey | None:
    """What of the mount targets is missing, where somebody wants to know."""
    if not targets:
        return None
    from podpy.runtime.stubs import Survey  # whoever wants to know has imported it

    return Survey(root, targets)


def _set_up_kernel_objects(plan: Plan, steps: Steps) -> None:
    if plan.hostname:
        steps("set the host name")
        libc.sethostname(plan.hostname)
    if plan.domainname:
        steps("set the domain name")
        libc.setdomainname(plan.domainname)
    if plan.loopback:
        steps("bring the loopback interface up")
        netlink.set_loopback_up()
    steps("join a session keyring")
    join_keyring()


def join_keyring() -> None:
    """Leave the user's session keyring, which may hold tickets and disk keys, for a new one.

    A user may have 200 keys: when they are used up, the keyring is charged to
    another id of the container, which has 200 of its own.  Where a filter
    around us forbids keyctl, the payload cannot use keys either.
    """
    try:
        libc.join_session_keyring(_KEYRING)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return
        if error.errno != errno.EDQUOT:
            raise
        os.setresuid(1 + int.from_bytes(os.urandom(2), "big") % 999, 0, 0)
        libc.join_session_keyring(_KEYRING)
        os.setresuid(0, 0, 0)


def set_oom_score(payload: Process, steps: Steps) -> None:
    """Through the host's ``/proc``, before the container's takes its place."""
    if payload.oom_score_adj is not None:
        steps(f"set the OOM score to {payload.oom_score_adj}")
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, str(payload.oom_score_adj).encode())
        os.close(fd)


def _open_terminal(root: int, inner: Channel) -> tuple[int, int, int]:
    """The payload's terminal, which is the container's ``/dev/console`` too."""
    slave = open_terminal(root, inner)
    console = mounts.open_target(root, "/dev/console", directory=False, follow=False)
    mounted = libc.open_tree(slave, "", libc.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH)
    libc.move_mount(mounted, console)
    os.close(mounted)
    os.close(console)
    return slave, slave, slave


def open_terminal(root: int, inner: Channel) -> int:
    """The slave of a new pty of the container's own devpts; the master goes out as ``PTY``.

    In a container that runs, anything may lie at that name: only the pty
    multiplexer's device is used.  The slave comes from the master by
    ``TIOCGPTPEER``, not by its name in the container's ``/dev``.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK
    ptmx = mounts.open_in_root(root, "/dev/pts/ptmx", flags, follow=False)
    status = os.fstat(ptmx)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _PTMX:
        raise LaunchError("the container's /dev/pts/ptmx is not a pty multiplexer")
    os.set_blocking(ptmx, True)
    fcntl.ioctl(ptmx, TIOCSPTLCK, struct.pack("i", 0))
    slave: int = fcntl.ioctl(ptmx, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    inner.send(channel.PTY, fds=(ptmx,))
    os.close(ptmx)
    return slave


def _enter_root(root: int, plan: Plan, steps: Steps) -> None:
    steps("pivot into the root file system")
    if plan.read_only_root:
        libc.mount_setattr(_reopened(root), set_=libc.MOUNT_ATTR_RDONLY)
    os.fchdir(root)
    libc.pivot_root(".", ".")
    # The old root lies over the new one at "/": this detaches it, with all that hangs below.
    libc.umount2(".", libc.MNT_DETACH)
    os.chdir("/")
    os.close(root)
    _entered(plan.process.cwd, create=True)


def _reopened(root: int) -> int:
    return os.open(f"/proc/self/fd/{root}", libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def change_directory(path: str, *, create: bool = False) -> None:
    """``chdir`` that ends inside the root, or fails (CVE-2024-21626).

    A path such as ``/proc/self/fd/7`` may lead to a directory of the host, to
    enter it or to make others there: magic links are not followed.  getcwd,
    which begins with a slash only inside the root, has the last word.
    """
    root = os.open("/", libc.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directory = _open_directory(root, path, create)
        os.fchdir(directory)
        os.close(directory)
        inside = os.getcwd().startswith("/")
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOENT):
            raise
        inside = False
    finally:
        os.close(root)
    if not inside:
        raise LaunchError(f"working directory {path}: lies outside the container's root")


def _open_directory(root: int, path: str, create: bool) -> int:
    try:
        return mounts.open_in_root(root, path, libc.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        if not create:
            raise CommandNotFound(f"working directory {path}: no such directory") from None
        return mounts.open_target(root, path, directory=True)


def _entered(path: str, *, create: bool = False) -> bool:
    """Try :func:`change_directory` as root: the user may be allowed what root is not (NFS)."""
    try:
        change_directory(path, create=create)
    except PermissionError:
        return False
    return True


# --- the last steps, shared with exec ----------------------------------------


def execute(
    payload: Process, who: users.Credentials, stdio: tuple[int, int, int], steps: Steps,
    *, tty: bool,
) -> None:  # fmt: skip
    """Become the payload: never returns; raises what went wrong."""
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    steps("connect the standard streams")
    for target, fd in enumerate(stdio):
        os.dup2(fd, target)
        os.set_inheritable(target, True)  # dup2 onto itself leaves close-on-exec set
        os.set_blocking(target, True)
    if tty:
        fcntl.ioctl(0, TIOCSCTTY, 0)
        os.fchown(0, who.uid, -1)
    steps("set the resource limits")
    for number, soft, hard in payload.rlimits:
        resource.setrlimit(number, (soft, hard))
    os.umask(payload.umask)
    process.default_signals()
    # Whatever podpy's caller left open must not reach the container (CVE-2024-21626);
    # closing at execve keeps our own channel alive for a failure of execve itself.
    libc.close_range(3, flags=libc.CLOSE_RANGE_CLOEXEC)
    for fd in payload.preserved:
        os.set_inheritable(fd, True)
    steps(f"change to the working directory {payload.cwd}")
    entered = _entered(payload.cwd)
    credentials.apply(
        who,
        payload.capabilities,
        payload.seccomp,
        no_new_privileges=payload.no_new_privileges,
        last_capability=payload.last_capability,
        may_set_groups=payload.may_set_groups,
        step=steps,
    )
    if not entered:
        steps(f"change to the working directory {payload.cwd}")
        change_directory(payload.cwd)
    if payload.tie >= 0:
        steps("tie the command to the process that waits for it")
        process.die_with(payload.tie)
    steps("execute the command")
    run_command(payload.argv, _environment(payload, who))


def _environment(payload: Process, who: users.Credentials) -> dict[str, str]:
    entries = (*payload.env, *payload.activation)
    variables = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    if payload.activation:
        variables["LISTEN_PID"] = str(os.getpid())
    variables.setdefault("HOME", who.home)
    return variables


def run_command(argv: tuple[str, ...], variables: dict[str, str]) -> None:
    """``execve`` by the container's ``PATH``; 126 and 127 as the shell has them."""
    name = argv[0]
    if "/" in name:
        candidates = [name]
    else:
        path = variables.get("PATH") or DEFAULT_PATH
        candidates = [f"{directory or '.'}/{name}" for directory in path.split(":")]
    denied: OSError | None = None
    for candidate in candidates:
        try:
            os.execve(candidate, argv, variables)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                denied = denied or error
    raise invocation_error(name, denied, searched="/" not in name)


def invocation_error(name: str, denied: OSError | None, *, searched: bool) -> Exception:
    """Why a command could not be executed, in docker's words."""
    if denied is not None:
        reason = (
            "exec format error"
            if denied.errno == errno.ENOEXEC
            else (denied.strerror or "").lower()
        )
        return CannotInvoke(f'exec: "{name}": {reason}')
    if searched:
        return CommandNotFound(f'exec: "{name}": executable file not found in $PATH')
    return CommandNotFound(f'exec: "{name}": stat {name}: no such file or directory')
