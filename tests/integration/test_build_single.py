"""Builds for a user without subordinate ids: owners, modes and devices are those of any host."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import debian, host, images, processes
from support.podman import Podman
from support.podpy import BUSYBOX, Podpy
from support.registry import Registry
from support.single import SinglePodpy

SMALL = "localhost/debian-small:latest"
NET = ("--network", "none")
#: What Debian's packages make of themselves, as `stat` shows it after an installation by root.
INSTALLED = {
    "etc/redis/redis.conf": ("redis", "redis", 0o640),
    "var/lib/redis": ("redis", "redis", 0o750),
    "var/log/redis": ("redis", "adm", 0o2750),
    "etc/ssh/ssh_host_ed25519_key": ("root", "root", 0o600),
    "etc/ssh/ssh_host_ed25519_key.pub": ("root", "root", 0o644),
    "usr/bin/ssh-agent": ("root", "_ssh", 0o2755),
    "usr/lib/openssh/ssh-keysign": ("root", "root", 0o4755),
    "usr/sbin/postdrop": ("root", "postdrop", 0o2555),
    "usr/sbin/postqueue": ("root", "postdrop", 0o2555),
    "var/lib/postfix": ("postfix", "postfix", 0o755),
    "var/spool/postfix/active": ("postfix", "root", 0o700),
    "var/spool/postfix/maildrop": ("postfix", "postdrop", 0o1730),
    "var/spool/postfix/public": ("postfix", "postdrop", 0o2710),
    "etc/shadow": ("root", "shadow", 0o640),
}


@pytest.fixture
def single(
    directory: Path, watch: processes.Watch, cgroup: host.OwnCgroup
) -> Iterator[SinglePodpy]:
    host.require("unshare", "setpriv")
    runner = SinglePodpy(directory, cgroup)
    yield runner
    runner.clean_up(watch)


@pytest.fixture
def podpy(single: SinglePodpy) -> SinglePodpy:
    single.load_busybox()
    return single


def test_this_host_has_one_id(podpy: SinglePodpy) -> None:
    done = podpy("run", "--rm", *NET, BUSYBOX, "cat", "/proc/self/uid_map")
    assert done.text.split()[::2] == ["0", "1"]


def test_run_gives_owners_modes_and_devices(podpy: SinglePodpy) -> None:
    made = podpy.build(
        f"""FROM {BUSYBOX}
        RUN mkdir /d && touch /d/f && ln -s f /d/l && mkfifo /d/p && ln /d/f /d/h
        RUN chown -R 101:102 /d && chown -h 103:104 /d/l && chmod 6755 /d/f && chmod 2750 /d \\
            && mknod -m 600 /d/null c 1 3 && mknod /d/disk b 8 17 && chown 0:6 /d/disk
        """,
        *NET,
    )
    tree = made.tree
    assert tree["d"].owner == (101, 102) and tree["d"].mode == 0o2750
    assert tree["d/f"].owner == tree["d/h"].owner == (101, 102)
    assert tree["d/f"].mode == 0o6755 and tree["d/h"].kind == "file"
    assert tree["d/l"].owner == (103, 104) and tree["d/p"].owner == (101, 102)
    assert (tree["d/null"].kind, tree["d/null"].device, tree["d/null"].mode) == (
        "char", (1, 3), 0o600,
    )  # fmt: skip
    assert (tree["d/disk"].kind, tree["d/disk"].device) == ("block", (8, 17))
    assert tree["d/disk"].owner == (0, 6)


def test_nothing_of_the_records_is_in_the_image(podpy: SinglePodpy) -> None:
    made = podpy.build(f"FROM {BUSYBOX}\nRUN touch /f && chown 5:6 /f\n", *NET)
    assert {path: entry.xattrs for path, entry in made.tree.items() if entry.xattrs} == {}
    assert "etc/apt" not in made.tree


def test_owners_are_told_to_later_steps_and_copied_by_them(podpy: SinglePodpy) -> None:
    made = podpy.build(
        f"""FROM {BUSYBOX}
        RUN mkdir /d && echo a > /d/f && ln -s f /d/l && chown -R 5:6 /d && chown -h 7:8 /d/l
        RUN test "$(stat -c %u:%g /d/f /d/l)" = "$(printf '5:6\\n7:8')"
        RUN cp -a /d /copy && sed -i s/a/b/ /d/f && mv /d/f /moved && chown :9 /d
        """,
        *NET,
    )
    tree = made.tree
    assert tree["copy"].owner == tree["copy/f"].owner == (5, 6)
    assert tree["copy/l"].owner == tree["d/l"].owner == (7, 8)
    assert tree["moved"].owner == (5, 6) and tree["moved"].content == "b\n"
    assert tree["d"].owner == (5, 9)


def test_what_a_user_makes_is_the_users(podpy: SinglePodpy) -> None:
    made = podpy.build(
        f"""FROM {BUSYBOX}
        RUN mkdir /home/app && chown 55:56 /home/app && touch /shared
        USER 55:56
        RUN cd /home/app && mkdir d && touch d/f && ln -s d l && mkfifo p && chmod 666 /shared
        USER root
        RUN touch /home/app/roots
        """,
        *NET,
    )
    for name in ("home/app", "home/app/d", "home/app/d/f", "home/app/l", "home/app/p"):
        assert made.tree[name].owner == (55, 56), name
    for name in ("home", "shared", "home/app/roots"):
        assert made.tree[name].owner == (0, 0), name


def test_copy_and_add_give_and_keep_owners(podpy: SinglePodpy) -> None:
    context = podpy.directory / "context"
    context.mkdir()
    (context / "link").symlink_to("f")
    _archive(context / "a.tar")
    made = podpy.build(
        f"""FROM {BUSYBOX} AS first
        RUN mkdir /d && touch /d/f && ln -s f /d/l && chown -R 5:6 /d && chown -h 5:6 /d/l
        FROM {BUSYBOX}
        COPY --chown=7:8 f link /copied/
        COPY --from=first /d/ /kept/
        COPY --from=first --chown=9:9 /d/ /given/
        ADD a.tar /unpacked/
        ADD --chown=4:4 a.tar /mine/
        """,
        *NET,
        f="content",
    )
    owners = {path: entry.owner for path, entry in made.tree.items()}
    assert owners["copied/f"] == owners["copied/link"] == (7, 8)
    assert owners["kept/f"] == owners["kept/l"] == (5, 6)
    assert owners["given/f"] == owners["given/l"] == (9, 9)
    assert owners["unpacked/t/f"] == owners["unpacked/t/l"] == (71, 72)
    assert owners["mine/t/f"] == owners["mine/t/l"] == (4, 4)


def _archive(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name, kind in (
            ("t", tarfile.DIRTYPE),
            ("t/f", tarfile.REGTYPE),
            ("t/l", tarfile.SYMTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.uid, member.gid, member.mode = kind, 71, 72, 0o755
            member.linkname = "f" if kind == tarfile.SYMTYPE else ""
            archive.addfile(member)


@pytest.fixture
def ranged(base: Path, watch: processes.Watch, cgroup: host.OwnCgroup) -> Iterator[Podpy]:
    """podpy of the same user, with his subordinate ids."""
    host.require("newuidmap", "subids")
    place = base / "ranged"
    place.mkdir(mode=0o700)
    runner = Podpy(place)
    yield runner
    runner.clean_up(watch)


def test_the_image_is_the_one_that_another_host_makes(podpy: SinglePodpy, ranged: Podpy) -> None:
    """To the digest: owners and modes, links, directories on the way, what is deleted."""
    context = podpy.directory / "context"
    context.mkdir()
    (context / "f").write_text("content")
    (context / "f").chmod(0o640)
    (context / "Dockerfile").write_text(f"""FROM {BUSYBOX} AS first
        RUN mkdir -p /d/e && touch /d/f /d/e/f && ln -s f /d/l && ln /d/f /d/h && mkfifo /d/p
        RUN chown -R 101:102 /d && chown -h 103:104 /d/l && chmod 6755 /d/f && chmod 2750 /d
        FROM {BUSYBOX}
        COPY --from=first /d /d
        COPY --chown=7:8 --chmod=4711 f /copied/f
        RUN mkdir /g && chown 0:77 /g && chmod 3777 /g && mkdir /g/d && touch /g/d/f
        RUN touch /g/f /g/root && ln -s f /g/l && mkfifo /g/p && chown 0:0 /g/root && chmod 700 /g/d
        COPY f /g/copied
        USER 55:56
        RUN touch /tmp/mine /g/mine && mkdir /tmp/d && ln -s x /tmp/d/l && ln -s x /g/mine.l
        USER root
        RUN rm -r /d/e && cp -a /d /copy && sed -i s/content/other/ /copied/f
        """)
    ranged.load_layers(BUSYBOX, images.busybox_layer())
    made = [each("build", "-q", *NET, "--timestamp", "1", context).text for each in (podpy, ranged)]
    assert made[0] == made[1]


def test_mounts_have_the_owners_they_ask_for(podpy: SinglePodpy) -> None:
    (podpy.directory / "secret").write_text("s")
    made = podpy.build(
        f"""FROM {BUSYBOX}
        RUN --mount=type=cache,target=/cache,uid=5,gid=6,mode=750 \\
            --mount=type=secret,id=s,target=/s,uid=7,mode=440 --mount=type=tmpfs,target=/t \\
            stat -c '%n %u:%g %a' /cache /s > /seen && touch /t/f /cache/f \\
            && chown 8:9 /t/f /cache/f && mv /t/f /from-tmpfs && mv /cache/f /from-cache
        """,
        *NET,
        "--secret",
        f"id=s,src={podpy.directory}/secret",
    )
    assert made.tree["seen"].content == "/cache 5:6 750\n/s 7:0 440\n"
    assert made.tree["from-cache"].owner == made.tree["from-tmpfs"].owner == (8, 9)


def test_squashed_layers_keep_their_owners(podpy: SinglePodpy) -> None:
    made = podpy.build(
        f"""FROM {BUSYBOX}
        RUN touch /f /g && ln -s f /l && chown 5:6 /f && chown -h 7:8 /l && mknod /n c 1 3
        RUN chown 9:9 /g
        """,
        *NET,
        "--squash",
    )
    assert [made.tree[name].owner for name in "fgl"] == [(5, 6), (9, 9), (7, 8)]
    assert made.tree["n"].device == (1, 3)


def test_an_exported_root_file_system_has_the_owners(podpy: SinglePodpy) -> None:
    podpy.build(
        f"FROM {BUSYBOX}\nRUN touch /f && ln -s f /l && chown 5:6 /f && chown -h 7:8 /l\n",
        *NET,
    )
    archive = podpy.directory / "root.tar"
    podpy("build", *NET, "-o", f"type=tar,dest={archive}", podpy.directory / "context")
    with tarfile.open(archive) as tar:
        owners = {each.name.removeprefix("./"): (each.uid, each.gid) for each in tar}
    assert (owners["f"], owners["l"]) == ((5, 6), (7, 8))


def test_becoming_a_user_succeeds(podpy: SinglePodpy) -> None:
    """And is documented to change nothing."""
    podpy.build(
        f"""FROM {BUSYBOX}
        RUN echo app:x:55:56::/:/bin/sh >> /etc/passwd && su app -c 'id -u > /who'
        RUN test "$(cat /who)" = 0
        """,
        *NET,
    )


def test_a_command_that_fails_fails(podpy: SinglePodpy) -> None:
    context = podpy.directory / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX}\nRUN chown 5:6 /missing\n")
    done = podpy("build", *NET, context, code=1)
    assert "exit code: 1" in done.stderr


@pytest.mark.needs("docker-registry")
def test_others_find_the_owners_in_a_pushed_image(
    podpy: SinglePodpy, podman: Podman, registry: Registry
) -> None:
    podpy.build(
        f"""FROM {BUSYBOX}
        RUN mkdir /d && touch /d/f && ln -s f /d/l && chown -R 101:102 /d && chown -h 7:8 /d/l
        RUN chmod 4750 /d/f && mknod -m 640 /d/null c 1 3
        """,
        *NET,
    )
    name = f"{registry.address}/team/made:1"
    podpy("push", "-q", "--tls-verify=false", "made", name)
    podman("pull", "-q", "--tls-verify=false", name)
    look = ("stat", "-c", "%n %u:%g %a", "/d", "/d/f", "/d/l")
    found = podman("run", "--rm", *NET, name, *look).lines
    assert found == ["/d 101:102 755", "/d/f 101:102 4750", "/d/l 7:8 777"]


@pytest.mark.long
@pytest.mark.internet
def test_packages_of_debian_are_installed_as_by_root(single: SinglePodpy) -> None:
    archive = debian.archive(debian.cache("podpy-debian"), SMALL)
    single("load", "-q", "-i", archive, timeout=120)
    made = single.build(
        f"""FROM {SMALL}
        ENV DEBIAN_FRONTEND=noninteractive
        RUN apt-get update && apt-get install -y --no-install-recommends \\
            redis-server openssh-server postfix
        """,
        timeout=900,
    )
    databases = [
        single("run", "--rm", *NET, "made", "cat", f"/etc/{name}").text
        for name in ("passwd", "group")
    ]
    users, groups = (_names(database) for database in databases)
    found = {
        path: (users[entry.owner[0]], groups[entry.owner[1]], entry.mode)
        for path, entry in made.tree.items()
        if path in INSTALLED
    }
    assert found == INSTALLED
    assert not [path for path in made.tree if "single" in path and path.startswith("etc/apt")]


def _names(database: str) -> dict[int, str]:
    return {int(line.split(":")[2]): line.split(":")[0] for line in database.splitlines()}
