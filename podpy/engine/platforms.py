"""Platforms: what the user asks for, what this machine is, what an index offers.

Architectures are spelled as in the OCI image index (Go's ``GOARCH``); the
spellings of uname(2) and of users are accepted.
"""

from __future__ import annotations

import os

from podpy.errors import ImageError, UsageError
from podpy.model import Descriptor, Platform

_SPELLINGS = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armv8l": "arm64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "x86": "386",
    "loongarch64": "loong64",
}
_ARM = {
    "armhf": "v7",
    "armv7": "v7",
    "armv7l": "v7",
    "armel": "v6",
    "armv6": "v6",
    "armv6l": "v6",
    "armv5": "v5",
    "armv5l": "v5",
    "armv5tel": "v5",
}

# What one word of --platform may be (Go's GOOS and GOARCH, as far as there are images for them).
_SYSTEMS = ("linux", "windows", "freebsd", "darwin")
_ARCHITECTURES = (
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x", "wasm",
)  # fmt: skip


def normalise(architecture: str, variant: str = "") -> tuple[str, str]:
    """The OCI spelling of an architecture and its variant."""
    name, variant = architecture.lower(), variant.lower()
    if name in _ARM:
        return "arm", variant or _ARM[name]
    name = _SPELLINGS.get(name, name)
    if variant and variant[0].isdigit():
        variant = f"v{variant}"
    return name, "" if (name, variant) == ("arm64", "v8") else variant


def host() -> Platform:
    """The platform podpy runs on."""
    architecture, variant = normalise(os.uname().machine)
    return Platform(os="linux", architecture=architecture, variant=variant)


def wanted(platform: str = "", os: str = "", arch: str = "", variant: str = "") -> Platform:
    """The platform that ``--platform OS/ARCH[/VARIANT]``, ``--os``, ``--arch``, ``--variant`` mean.

    What is not said is taken from the host.
    """
    if platform and (os or arch or variant):
        raise UsageError("--platform cannot be used with --os, --arch or --variant")
    if platform:
        parts = platform.split("/")
        if len(parts) == 1 and parts[0].lower() not in _SYSTEMS:
            if parts[0] and normalise(parts[0])[0] not in _ARCHITECTURES:
                raise UsageError(
                    f"--platform {platform!a}: unknown operating system or architecture",
                    hint="OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64 or linux/arm/v7",
                )
            parts = ["linux", *parts]
        if len(parts) > 3 or not all(parts):
            raise UsageError(f"--platform {platform!a}: must be OS/ARCH or OS/ARCH/VARIANT")
        os, arch, variant = (*parts, "", "")[:3]
    own = host()
    if not arch:
        return Platform(
            os=os.lower() or own.os, architecture=own.architecture, variant=variant or own.variant
        )
    architecture, variant = normalise(arch, variant)
    return Platform(os=os.lower() or "linux", architecture=architecture, variant=variant)


def fits(offered: Platform, asked: Platform) -> bool:
    """Whether an image for ``offered`` is what ``asked`` means, variants left aside."""
    architecture, _ = normalise(offered.architecture, offered.variant)
    return (offered.os, architecture) == (asked.os, asked.architecture)


def choose(entries: tuple[Descriptor, ...], asked: Platform) -> Descriptor:
    """The entry of an image index for a platform; the first of equals, as in the specification.

    The exact variant wins; then, for arm, the newest that the machine still
    runs; then an entry without a variant.
    """
    described = [entry for entry in entries if entry.platform is not None]
    if not described and len(entries) == 1:
        return entries[0]
    best: tuple[int, Descriptor] | None = None
    for entry in described:
        rank = _rank(entry.platform or Platform(), asked)
        if rank > 0 and (best is None or rank > best[0]):
            best = (rank, entry)
    if best is None:
        offered = sorted({str(entry.platform) for entry in described} - {"unknown/unknown"})
        raise ImageError(
            f"no image for platform {asked}: the index has {', '.join(offered) or 'none'}"
        )
    return best[1]


def _rank(offered: Platform, asked: Platform) -> int:
    """How well an entry fits; 0 when it does not."""
    if not fits(offered, asked):
        return 0
    _, variant = normalise(offered.architecture, offered.variant)
    if variant == asked.variant:
        return 100
    if not variant:
        return 50
    have, want = _level(variant), _level(asked.variant)
    if asked.architecture == "arm":
        return have + 1 if have <= (want or 7) else 0
    if not asked.variant:
        return 20 - have  # the least demanding one
    return 20 + have if have < want else 0


def _level(variant: str) -> int:
    digits = variant.removeprefix("v").partition(".")[0]
    return int(digits) if digits.isdigit() else 0
