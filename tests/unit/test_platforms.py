"""Choosing from an image index."""

from __future__ import annotations

import pytest

from podpy.engine import platforms
from podpy.errors import ImageError, UsageError
from podpy.model import Descriptor, Platform


def entry(platform: str) -> Descriptor:
    parts = (*platform.split("/"), "")
    described = Platform(os=parts[0], architecture=parts[1], variant=parts[2])
    return Descriptor(media_type=platform, digest="", size=0, platform=described)


def chosen(asked: str, *offered: str) -> str:
    wanted = platforms.wanted(asked)
    return platforms.choose(tuple(entry(text) for text in offered), wanted).media_type


@pytest.mark.parametrize(
    ("asked", "offered", "expected"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("amd64", ["linux/386", "linux/amd64"], "linux/amd64"),
        ("linux/x86_64", ["windows/amd64", "linux/amd64"], "linux/amd64"),
        ("linux/aarch64", ["linux/arm/v7", "linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64/v8", ["linux/arm64"], "linux/arm64"),
        ("linux/arm", ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm/v7"),
        ("linux/arm/v6", ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm/v6"),
        ("linux/arm/v6", ["linux/arm/v5", "linux/arm/v7"], "linux/arm/v5"),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64/v2"], "linux/amd64/v2"),
        ("linux/amd64/v2", ["linux/amd64/v3", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["unknown/unknown", "linux/amd64"], "linux/amd64"),
    ],
)
def test_the_best_entry_is_chosen(asked: str, offered: list[str], expected: str) -> None:
    assert chosen(asked, *offered) == expected


def test_no_entry_fits_and_the_error_says_which_there_are() -> None:
    with pytest.raises(ImageError, match="linux/arm64, linux/s390x"):
        chosen("linux/amd64", "linux/s390x", "linux/arm64", "unknown/unknown")


def test_a_single_entry_without_platform_is_taken() -> None:
    only = Descriptor(media_type="m", digest="", size=0)
    assert platforms.choose((only,), platforms.host()) == only


def test_options_are_exclusive_and_checked() -> None:
    assert platforms.wanted("windows") == platforms.wanted(os="Windows")
    assert platforms.wanted("windows").os == "windows"
    assert platforms.wanted(arch="armhf") == Platform(os="linux", architecture="arm", variant="v7")
    with pytest.raises(UsageError):
        platforms.wanted("linux/amd64", arch="arm64")
    for text in ("linux/", "a/b/c/d", "linux//v7", "bogus", "/"):
        with pytest.raises(UsageError):
            platforms.wanted(text)
