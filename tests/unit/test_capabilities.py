"""Which capabilities a container gets."""

from __future__ import annotations

import pytest

from podpy.errors import UsageError
from podpy.kernel import capabilities as caps


def test_the_default_set_is_podmans() -> None:
    assert caps.select() == caps.DEFAULT
    assert len(caps.DEFAULT) == 11


def test_numbers_are_the_kernels() -> None:
    assert caps.NUMBERS["CAP_CHOWN"] == 0
    assert caps.NUMBERS["CAP_SYS_ADMIN"] == 21
    assert caps.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40
    assert caps.bits(["chown", "CAP_SYS_ADMIN"]) == 1 | 1 << 21
    assert caps.names(caps.bits(caps.DEFAULT)) == tuple(
        sorted(caps.DEFAULT, key=caps.NUMBERS.__getitem__)
    )


@pytest.mark.parametrize("spelling", ["net_admin", "NET_ADMIN", "CAP_NET_ADMIN", "cap_net_admin"])
def test_any_spelling(spelling: str) -> None:
    assert "CAP_NET_ADMIN" in caps.select(add=[spelling])
    assert "CAP_CHOWN" not in caps.select(drop=["chown"])


def test_all_is_bounded_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(caps.select(add=["all"])) == set(caps.supported())
    assert set(caps.select(privileged=True)) == set(caps.supported())
    assert caps.select(drop=["ALL"]) == ()
    assert caps.select(drop=["ALL"], add=["kill"]) == ("CAP_KILL",)
    assert "CAP_KILL" not in caps.select(add=["ALL"], drop=["kill"])
    assert "CAP_KILL" not in caps.select(privileged=True, drop=["kill"])
    monkeypatch.setattr(caps, "last_known", lambda: caps.NUMBERS["CAP_AUDIT_READ"])
    assert "CAP_BPF" not in caps.select(add=["ALL"])
    with pytest.raises(UsageError, match="does not know"):
        caps.select(add=["BPF"])


@pytest.mark.parametrize(
    ("add", "drop"), [(["nonsense"], []), ([], ["CAP_"]), (["KILL"], ["kill"]), (["all"], ["ALL"])]
)
def test_refused(add: list[str], drop: list[str]) -> None:
    with pytest.raises(UsageError):
        caps.select(add=add, drop=drop)
