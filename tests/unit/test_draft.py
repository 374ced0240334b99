"""From options, an image and the configuration to a container's record."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from podpy.engine import draft, security
from podpy.engine.options import ContainerOptions
from podpy.engine.surroundings import Surroundings
from podpy.errors import HostError, NotFound, UsageError
from podpy.model import ContainerRecord, Image, ImageConfig, Platform, Ulimit
from podpy.net import ports
from podpy.netmodel import Network
from podpy.records import replace
from podpy.settings import Config, ContainerDefaults

ID = "ab" * 32
OTHER_ID = "cd" * 32
IMAGE = Image(
    id="1f" * 32,
    digest="sha256:" + "2e" * 32,
    media_type="application/vnd.oci.image.manifest.v1+json",
    names=("docker.io/library/web:1",),
    platform=Platform(architecture="amd64"),
    diff_ids=("sha256:" + "3d" * 32,),
    config=ImageConfig(
        user="www",
        env=("PATH=/image",),
        entrypoint=("/entry",),
        cmd=("serve", "--now"),
        working_dir="/srv",
        volumes=("/data",),
        exposed_ports=("80/tcp", "53/udp"),
        labels={"a": "image", "b": "image"},
        stop_signal="SIGQUIT",
    ),
)


def surroundings(**changes: object) -> Surroundings:
    numbers = itertools.count()

    def lookup(name: str) -> ContainerRecord:
        if name not in ("other", OTHER_ID):
            raise NotFound(f"no container {name}")
        return replace(build().record, id=OTHER_ID, hostname="otherhost")

    def find_network(name: str) -> Network:
        return Network(name=name, id="a" * 64, created=1.0)

    values: dict[str, object] = {
        "id": ID, "now": 1000.0, "cwd": "/cwd", "env": {}, "hostname": "thishost",
        "ids": (1000, 1000), "lookup": lookup,
        "ranges": lambda name: (((100000, 65536),), ((100000, 65536),)),
        "taken": lambda: ((), ()),
        "find_network": find_network, "parse_port": ports.parse,
        "new_volume": lambda: f"anonymous{next(numbers)}",
    }  # fmt: skip
    return Surroundings(**{**values, **changes})  # type: ignore[arg-type]


def build(
    image: Image | None = IMAGE, config: Config | None = None, **options: object
) -> draft.Draft:
    given = ContainerOptions(**{"image": "web", **options})  # type: ignore[arg-type]
    return draft.build(given, image, config or Config(), surroundings())


def record(**options: object) -> ContainerRecord:
    return build(**options).record  # type: ignore[arg-type]


# --- the command -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "argv"),
    [
        ({}, ("/entry", "serve", "--now")),
        ({"command": ("x", "y")}, ("/entry", "x", "y")),
        ({"entrypoint": "/bin/sh"}, ("/bin/sh",)),
        ({"entrypoint": "/bin/sh", "command": ("-c", "x")}, ("/bin/sh", "-c", "x")),
        ({"entrypoint": "", "command": ("x",)}, ("x",)),
        ({"entrypoint": '["a", "b"]', "command": ("c",)}, ("a", "b", "c")),
    ],
)
def test_entrypoint_and_command(options: dict[str, object], argv: tuple[str, ...]) -> None:
    assert record(**options).argv == argv


def test_no_command_at_all() -> None:
    with pytest.raises(UsageError, match="no command or entrypoint"):
        record(entrypoint="")


def test_what_the_image_says_and_options_override() -> None:
    made = record()
    assert (made.user, made.working_dir, made.stop_signal) == ("www", "/srv", "SIGQUIT")
    made = record(user="1:2", workdir="/w", stop_signal="rtmin+3")
    assert (made.user, made.working_dir, made.stop_signal) == ("1:2", "/w", "SIGRTMIN+3")
    with pytest.raises(UsageError, match="not an absolute path"):
        record(workdir="w")


def test_the_image_is_recorded() -> None:
    made = record()
    assert (made.image_id, made.image_name) == (IMAGE.id, "docker.io/library/web:1")
    assert made.layers == IMAGE.diff_ids
    assert made.platform == "linux/amd64"


def test_a_root_file_system_needs_no_image() -> None:
    made = record(image=None, rootfs=True, command=("/bin/sh",))
    assert (made.rootfs, made.image_id, made.argv) == ("/cwd/web", "", ("/bin/sh",))


def test_labels_of_image_file_and_options(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_text("b=file\nc=file\n")
    made = record(label=("c=option", "d"), label_file=(str(path),))
    assert made.labels == {"a": "image", "b": "file", "c": "option", "d": ""}


# --- names and networks --------------------------------------------------------------


def test_host_names() -> None:
    assert record().hostname == ID[:12]
    assert record(hostname="h").hostname == "h"
    assert record(network=("host",)).hostname == "thishost"
    assert record(uts="host").hostname == "thishost"
    assert record(network=("container:other",)).hostname == "otherhost"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"hostname": "x", "uts": "host"}, "--hostname"),
        ({"hostname": "x" * 65}, "--hostname"),
        ({"hostname": "x\n10.0.0.1 y"}, "--hostname"),
        ({"hostname": "x y"}, "--hostname"),
        ({"domainname": "x y"}, "--domainname"),
        ({"domainname": "x", "uts": "host"}, "--domainname"),
        ({"network": ("container:other",), "publish": ("80",)}, "--publish"),
        ({"network": ("container:other",), "dns": ("1.1.1.1",)}, "--dns"),
        ({"network": ("container:other",), "hostname": "x"}, "--hostname"),
        ({"add_host": ("x",)}, "--add-host"),
        ({"expose": ("0",)}, "--expose"),
        ({"expose": ("80/icmp",)}, "--expose"),
        ({"umask": "9"}, "--umask"),
        ({"stop_timeout": "soon"}, "--stop-timeout"),
        ({"stop_signal": "NOPE"}, "NOPE"),
        ({"log_driver": "syslog"}, "--log-driver"),
        ({"log_opt": ("what=1",)}, "--log-opt"),
        ({"log_opt": ("path=relative",)}, "--log-opt"),
        ({"shm_size": "1m", "ipc": "host"}, "--shm-size"),
        ({"oom_score_adj": "5000"}, "--oom-score-adj"),
        ({"image_volume": "what"}, "--image-volume"),
        ({"tz": "../../etc/passwd"}, "--tz"),
        ({"label": ("=x",)}, "--label"),
        ({"volumes_from": ("other:what",)}, "--volumes-from"),
        ({"cap_add": ("WHAT",)}, "WHAT"),
    ],
)
def test_errors_name_the_option(options: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        record(**options)


def test_joining_containers_of_two_kinds_is_refused() -> None:
    with pytest.raises(NotFound):
        record(network=("container:other",), pid="container:third")


def test_whoever_joins_a_network_joins_the_user_namespace() -> None:
    made = record(network=("container:other",))
    assert made.network.target == OTHER_ID
    assert (made.user_namespace.mode, made.user_namespace.target) == ("container", OTHER_ID)


@pytest.mark.parametrize("network", ["none", "host"])
def test_ports_are_discarded_where_there_is_nothing_to_publish_to(network: str) -> None:
    assert record(network=(network,), publish=("80:80",)).ports == ()


def test_publish_all_leaves_out_what_is_published() -> None:
    made = record(publish=("8080:80",), publish_all=True, expose=("9000-9001",))
    wanted = {(m.container_port, m.protocol, m.host_port) for m in made.ports}
    assert wanted == {(80, "tcp", 8080), (53, "udp", 0), (9000, "tcp", 0), (9001, "tcp", 0)}
    assert "9001/tcp" in made.exposed_ports


# --- mounts ------------------------------------------------------------------------


def destinations(made: ContainerRecord) -> dict[str, str]:
    return {mount.destination: mount.type for mount in made.mounts}


def test_image_volumes_become_anonymous_volumes() -> None:
    (mount,) = record().mounts
    assert (mount.type, mount.destination, mount.source) == ("volume", "/data", "anonymous0")
    assert mount.anonymous
    assert destinations(record(image_volume="tmpfs")) == {"/data": "tmpfs"}
    assert destinations(record(image_volume="ignore")) == {}
    assert destinations(record(volume=("/h:/data",))) == {"/data": "bind"}


def test_a_destination_is_named_once() -> None:
    with pytest.raises(UsageError, match="duplicate mount destination"):
        record(volume=("/a:/x",), tmpfs=("/x",))


def test_volumes_of_another_container_stay_that_ones() -> None:
    made = record(volumes_from=("other:ro",))
    (mount,) = made.mounts
    assert mount.options == ("ro",)
    assert not mount.anonymous


def test_configuration_gives_defaults() -> None:
    config = Config(
        containers=ContainerDefaults(
            env=("E=conf",), volumes=("/h:/conf",), log_driver="none", umask="0077",
            default_capabilities=("CHOWN",), dns_servers=("9.9.9.9",), netns="host",
            annotations=("a=b",), default_ulimits=("core=0",),
        )
    )  # fmt: skip
    made = build(config=config, image_volume="ignore").record
    assert "E=conf" in made.env
    assert destinations(made) == {"/conf": "bind"}
    assert (made.log.driver, made.umask, made.capabilities) == ("none", 0o077, ("CAP_CHOWN",))
    assert (made.dns, made.network.kind, dict(made.annotations)) == (
        ("9.9.9.9",),
        "host",
        {"a": "b"},
    )
    assert made.ulimits == (Ulimit(name="core", soft=0, hard=0),)


# --- rights ------------------------------------------------------------------------


def test_privileged_opens_seccomp_and_capabilities() -> None:
    made = record(privileged=True)
    assert made.seccomp == "unconfined"
    assert "CAP_SYS_ADMIN" in made.capabilities
    assert record(privileged=True, security_opt=("seccomp=default",)).seccomp == "default"


def test_security_options() -> None:
    made = record(
        security_opt=("no-new-privileges", "mask=/a:/b", "unmask=/proc/acpi", "proc-opts=hidepid=2")
    )
    assert made.no_new_privileges
    assert (made.masked, made.unmasked) == (("/a", "/b"), ("/proc/acpi",))
    assert made.proc_options == ("hidepid=2",)
    assert record(security_opt=("no-new-privileges:false",)).no_new_privileges is False
    assert record(security_opt=("systempaths=unconfined",)).unmasked == ("ALL",)
    assert "/proc/kcore" in record(security_opt=("unmask=/proc/*",)).unmasked


@pytest.mark.parametrize(
    "text",
    ["what=1", "mask=relative", "mask=", "proc-opts=size=1", "seccomp=/nonexistent", "seccomp="],
)
def test_wrong_security_options(text: str) -> None:
    with pytest.raises(UsageError, match=r"--security-opt|seccomp profile"):
        record(security_opt=(text,))


def test_confinement_that_podpy_does_not_have_is_refused() -> None:
    for text in ("label=type:x_t", "apparmor=profile"):
        with pytest.raises(HostError, match="does not confine"):
            record(security_opt=(text,))
    record(security_opt=("apparmor=unconfined",))


@pytest.mark.parametrize(
    ("name", "own_network", "own_ipc", "allowed"),
    [
        ("net.ipv4.ip_forward", True, True, True),
        ("net/ipv4/ip_forward", True, True, True),
        ("net.ipv4.ip_forward", False, True, False),
        ("kernel.shmmax", True, True, True),
        ("fs.mqueue.msg_max", True, False, False),
        ("kernel.core_pattern", True, True, False),
        ("vm.swappiness", True, True, False),
        ("net.../x", True, True, False),
    ],
)
def test_sysctls(name: str, own_network: bool, own_ipc: bool, allowed: bool) -> None:
    def ask() -> dict[str, str]:
        return security.sysctls((f"{name}=1",), (), own_network=own_network, own_ipc=own_ipc)

    if allowed:
        assert ask() == {name.replace("/", "."): "1"}
    else:
        with pytest.raises(UsageError, match="cannot be set"):
            ask()


@pytest.mark.parametrize("text", ["nofile", "what=1", "nofile=x", "nofile=20:10", "nofile=-1:5"])
def test_wrong_ulimits(text: str) -> None:
    with pytest.raises(UsageError, match="--ulimit"):
        security.ulimits((text,), ())


def test_a_limit_above_the_callers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security.resource, "getrlimit", lambda _: (10, 100))
    assert security.ulimits(("nofile=5:100",), ())[0].hard == 100
    with pytest.raises(HostError, match="your own hard limit is 100"):
        security.ulimits(("nofile=101",), ())
    with pytest.raises(HostError, match="your own hard limit is 100"):
        security.ulimits(("nofile=-1",), ())


def test_devices() -> None:
    (device,) = security.devices(("/dev/null:/dev/nothing:rw",))
    assert (device.host, device.container) == ("/dev/null", "/dev/nothing")
    with pytest.raises(HostError, match="only 'r'"):
        security.devices(("/dev/null:r",))
    with pytest.raises(HostError, match="No such file"):
        security.devices(("/dev/nonexistent",))
    with pytest.raises(UsageError, match="is not a device"):
        security.devices(("/etc/passwd",))
    with pytest.raises(UsageError, match="invalid specification"):
        security.devices(("null",))
