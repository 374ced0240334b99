"""``-v``, ``--mount`` and ``--tmpfs``: what is understood, and what is refused."""

from __future__ import annotations

import pytest

from podpy.engine import mounts
from podpy.errors import UsageError
from podpy.model import Mount


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a", Mount(type="volume", destination="/a", anonymous=True)),
        ("v:/a", Mount(type="volume", source="v", destination="/a")),
        ("/h:/a", Mount(type="bind", source="/h", destination="/a")),
        ("./h:/a/", Mount(type="bind", source="/cwd/h", destination="/a")),
        ("../h:/a/../b", Mount(type="bind", source="/h", destination="/b")),
        ("/h:/a:ro,z", Mount(type="bind", source="/h", destination="/a", options=("ro", "z"))),
        (
            "v:/a:nocopy,U",
            Mount(type="volume", source="v", destination="/a", options=("nocopy", "U")),
        ),
        ("/h:/a:cached", Mount(type="bind", source="/h", destination="/a")),
    ],
)
def test_volume(text: str, expected: Mount) -> None:
    assert mounts.parse_volume(text, "/cwd").mount == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "invalid specification"),
        ("/a:/b:ro:x", "invalid specification"),
        (":/b", "invalid specification"),
        ("/h:b", "must be absolute"),
        ("/h:/", "can't be '/'"),
        ("/h:/..", "can't be '/'"),
        ("v!:/a", "invalid characters"),
        ("/h:/a:what", "invalid option 'what'"),
        ("/h:/a:ro,rw", "exclude each other"),
        ("/h:/a:z,Z", "exclude each other"),
        ("/h:/a:shared,rslave", "exclude each other"),
        ("/h:/a:nocopy", "for volumes"),
    ],
)
def test_wrong_volumes(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        mounts.parse_volume(text, "/cwd")


def test_only_v_lets_a_missing_source_be_made() -> None:
    assert mounts.parse_volume("/h:/a", "/").create_source
    assert not mounts.parse_mount("type=bind,src=/h,dst=/a", "/").create_source
    assert mounts.parse_mount("type=bind,src=/h,dst=/a,bind-create-src", "/").create_source


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=bind,src=/h,dst=/a", Mount(type="bind", source="/h", destination="/a")),
        ("type=bind,source=h,target=/a,readonly", Mount(
            type="bind", source="/cwd/h", destination="/a", options=("ro",))),
        ("type=bind,src=/h,dst=/a,ro=false,bind-propagation=rslave,relabel=shared", Mount(
            type="bind", source="/h", destination="/a", options=("rslave", "z"))),
        ("type=bind,src=/h,dst=/a,rw=false", Mount(
            type="bind", source="/h", destination="/a", options=("ro",))),
        ("type=bind,src=/h,dst=/a,bind-recursive=disabled", Mount(
            type="bind", source="/h", destination="/a", options=("bind",))),
        ('type=bind,"src=/h,i",dst=/a', Mount(type="bind", source="/h,i", destination="/a")),
        ("src=v,dst=/a,volume-nocopy", Mount(
            type="volume", source="v", destination="/a", options=("nocopy",))),
        ("type=volume,dst=/a", Mount(type="volume", destination="/a", anonymous=True)),
        ("type=volume,src=v,dst=/a,volume-subpath=x/y", Mount(
            type="volume", source="v", destination="/a", subpath="x/y")),
        ("type=tmpfs,dst=/a,tmpfs-size=1m,tmpfs-mode=700", Mount(
            type="tmpfs", destination="/a", options=("size=1048576", "mode=700"))),
    ],
)  # fmt: skip
def test_mount(text: str, expected: Mount) -> None:
    assert mounts.parse_mount(text, "/cwd").mount == expected


def test_labels_of_a_volume_to_be_made() -> None:
    wish = mounts.parse_mount("type=volume,src=v,dst=/a,volume-label=a=b", "/")
    assert wish.labels == {"a": "b"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("type=bind,dst=/a", "needs source"),
        ("type=bind,src=/h", "no destination"),
        ("type=image,src=i,dst=/a", "'image' is not supported"),
        ("type=bind,src=/h,dst=/a,what=1", "key 'what'"),
        ("type=bind,src=/h,dst=/a,tmpfs-size=1m", "key 'tmpfs-size'"),
        ("type=bind,src=/h,dst=/a,dst=/b", "given twice"),
        ("type=bind,src=/h,dst=/a,ro=maybe", "neither true nor false"),
        ("type=bind,src=/h,dst=/a,bind-propagation=up", "invalid bind-propagation"),
        ("type=bind,src=/h,dst=/a,relabel=x", "invalid relabel"),
        ("type=volume,src=/h,dst=/a", "invalid characters"),
        ("type=volume,src=v,dst=/a,volume-driver=nfs", "driver 'nfs'"),
        ("type=volume,src=v,dst=/a,volume-subpath=../x", "leaves the volume"),
        ("type=tmpfs,src=/x,dst=/a", "takes no source"),
        ("type=tmpfs,dst=/a,tmpfs-mode=999", "octal"),
        ('type=bind,"src=/h,dst=/a', "unbalanced quotes"),
    ],
)
def test_wrong_mounts(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        mounts.parse_mount(text, "/cwd")


def test_tmpfs() -> None:
    made = mounts.parse_tmpfs("/t:size=64m,mode=1770,exec,rw")
    assert made == Mount(
        type="tmpfs", destination="/t", options=("size=67108864", "mode=1770", "exec")
    )
    assert mounts.parse_tmpfs("/t").options == ()
    for wrong in ("t", "/t:what", "/t:mode=9", "/t:size=x", "/t:size=150%", "/t:tmpcopyup"):
        with pytest.raises(UsageError):
            mounts.parse_tmpfs(wrong)
