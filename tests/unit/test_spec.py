"""A container computed from its record: what is mounted where, and in which order."""

from __future__ import annotations

from podpy.kernel.mounts import Bind, Filesystem, Mask, Overlay, ReadOnly, Symlink
from podpy.model import ContainerRecord, LogConfig, Mount, UserNamespace
from podpy.netmodel import NetworkMode
from podpy.records import replace
from podpy.runtime import spec

RECORD = ContainerRecord(
    id="c" * 64,
    name="box",
    created=0.0,
    argv=("true",),
    network=NetworkMode(kind="none"),
    user_namespace=UserNamespace(),
    log=LogConfig(),
)


def plan(**changes: object) -> tuple[list[spec.Standard], list[spec.Standard]]:
    return spec.operations(
        replace(RECORD, **changes),
        owns_network=True,
        new_network=True,
        volume_paths={"data": "/store/volumes/data/_data"},
        files={"/etc/hosts": "/store/hosts"},
        overlays="/store/overlays",
        gid_count=65537,
    )


def targets(operations: list[spec.Standard]) -> list[str]:
    return [o.link if isinstance(o, Symlink) else o.target for o in operations]


def test_every_container_has_the_standard_mounts_in_order() -> None:
    found = [
        t for t in targets(plan()[0]) if t in ("/proc", "/dev", "/dev/pts", "/dev/shm", "/sys")
    ]
    assert found == ["/proc", "/dev", "/dev/pts", "/dev/shm", "/sys"]


def test_standard_targets_are_never_reached_through_symbolic_links() -> None:
    standard = {"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"}
    followed = [
        o.target
        for o in plan()[0]
        if isinstance(o, Filesystem) and o.target in standard and o.follow
    ]
    assert followed == []


def test_device_nodes_are_checked_by_their_number() -> None:
    devices = {o.target: o.device for o in plan()[0] if isinstance(o, Bind) and o.device}
    assert set(devices) == {f"/dev/{name}" for name in spec.DEVICES}
    assert all(devices.values())


def test_a_mount_on_dev_replaces_everything_below_it() -> None:
    first, _ = plan(mounts=(Mount(type="bind", source="/dev", destination="/dev"),))
    below = [t for t in targets(first) if t == "/dev" or t.startswith("/dev/")]
    assert below == ["/dev"]


def test_parents_are_mounted_before_children() -> None:
    mounts = (
        Mount(type="bind", source="/b", destination="/a/b"),
        Mount(type="bind", source="/a", destination="/a"),
    )
    found = [t for t in targets(plan(mounts=mounts)[0]) if t.startswith("/a")]
    assert found == ["/a", "/a/b"]


def test_the_hosts_network_gives_the_hosts_sys_read_only() -> None:
    operation = spec.sys_operation(owns_network=False, privileged=False)
    assert isinstance(operation, Bind)
    assert "ro" in operation.options


def test_ping_is_allowed_to_every_mapped_group() -> None:
    proc = next(o for o in plan()[0] if o.describe() == "mount proc on /proc")
    assert isinstance(proc, Filesystem)
    assert proc.sysctls[spec.PING_GROUPS] == "0 65536"


def test_masked_and_read_only_paths_come_last_and_can_be_opened() -> None:
    _, late = plan()
    assert {o.target for o in late if isinstance(o, Mask)} >= {"/proc/kcore", "/sys/firmware"}
    assert {o.target for o in late if isinstance(o, ReadOnly)} >= {"/proc/sys"}
    _, late = plan(unmasked=("/proc/kcore",))
    assert "/proc/kcore" not in targets(late)
    assert "/sys/firmware" in targets(late)
    assert plan(unmasked=("ALL",))[1] == []
    assert plan(privileged=True)[1] == []


def test_a_volume_is_bound_from_its_data() -> None:
    first, _ = plan(mounts=(Mount(type="volume", source="data", destination="/d", subpath="x"),))
    bind = next(o for o in first if isinstance(o, Bind) and o.target == "/d")
    assert (bind.source, bind.subpath) == ("/store/volumes/data/_data", "x")


def test_option_capital_o_is_an_overlay_in_the_containers_directory() -> None:
    mount = Mount(type="bind", source="/src", destination="/w_x/y", options=("O",))
    found = [o for o in plan(mounts=(mount,))[0] if isinstance(o, Overlay)]
    assert [o.upper for o in found] == ["/store/overlays/w__x_y/upper"]


def test_overlays_of_different_targets_never_share_a_directory() -> None:
    one = Mount(type="bind", source="/s", destination="/a/b")
    other = Mount(type="bind", source="/s", destination="/a_b")
    assert spec.overlay_directories("/o", one) != spec.overlay_directories("/o", other)


def test_tmpfs_defaults_are_dockers() -> None:
    operation = spec.tmpfs_operation(Mount(type="tmpfs", destination="/t", options=("size=1m",)))
    assert operation.attributes == spec.NOSUID_NOEXEC_NODEV
    assert operation.settings == ("size=1m", "mode=1777")
    opened = spec.tmpfs_operation(Mount(type="tmpfs", destination="/t", options=("exec",)))
    assert opened.attributes == spec.NOSUID_NOEXEC_NODEV & ~spec.libc.MOUNT_ATTR_NOEXEC
