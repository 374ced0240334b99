"""Configuration: the merge order of each file, and the cache in front of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from podpy import config
from podpy.errors import UsageError
from podpy.settings import Config


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; the system's files are ``usr`` and ``etc`` beside it."""
    for name in list(os.environ):
        if name.startswith(("XDG_", "CONTAINERS_", "STORAGE_", "REGISTRY_", "DOCKER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(config, "_USR", str(tmp_path / "usr"))
    monkeypatch.setattr(config, "_ETC", str(tmp_path / "etc"))
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_nothing_configured_is_the_defaults(home: Path) -> None:
    loaded = config.load()
    assert loaded == Config()
    assert loaded.engine.stop_timeout == 10


def test_containers_conf_later_files_win_key_by_key(home: Path) -> None:
    write(home / "usr/containers.conf", "[containers]\nlog_driver='json-file'\ntz='a'\ninit=true\n")
    write(home / "etc/containers.conf", "[containers]\ntz='b'\n")
    write(home / "etc/containers.conf.d/50-x.conf", "[containers]\ntz='c'\numask='0022'\n")
    user = home / ".config/containers"
    write(user / "containers.conf", "[containers]\numask='0077'\n")
    write(user / "containers.conf.d/10.conf", "[engine]\nstop_timeout=3\n")
    write(user / "containers.conf.d/ignored.txt", "not TOML at all")
    loaded = config.load()
    held = loaded.containers
    assert (held.log_driver, held.tz, held.umask, held.init) == ("json-file", "c", "0077", True)
    assert loaded.engine.stop_timeout == 3
    assert len(loaded.files) == 5


def test_the_network_table(home: Path) -> None:
    pools = '[{base="10.89.0.0/16", size=24}, {"base"="10.92.0.0/14", "size"=20}]'
    write(
        home / "etc/containers.conf",
        "[network]\ndefault_network='lan'\ndefault_subnet='10.7.0.0/16'\n"
        f"default_subnet_pools={pools}\n",
    )
    held = config.load().network
    assert (held.default_network, held.default_subnet) == ("lan", "10.7.0.0/16")
    assert held.default_subnet_pools == ("10.89.0.0/16 24", "10.92.0.0/14 20")


@pytest.mark.parametrize("pools", ["'10.0.0.0/8'", "[{base='10.0.0.0/8'}]", "[{base=1, size=2}]"])
def test_subnet_pools_that_are_none(home: Path, pools: str) -> None:
    write(home / "etc/containers.conf", f"[network]\ndefault_subnet_pools={pools}\n")
    with pytest.raises(UsageError, match="default_subnet_pools"):
        config.load()


def test_an_array_replaces_unless_it_says_append(home: Path) -> None:
    write(home / "usr/containers.conf", "[containers]\nenv=['A=1']\ndns_servers=['1.1.1.1']\n")
    text = "[containers]\nenv=['B=2', {append=true}]\ndns_servers=['9.9.9.9']\n"
    write(home / "etc/containers.conf", text)
    loaded = config.load().containers
    assert loaded.env == ("A=1", "B=2")
    assert loaded.dns_servers == ("9.9.9.9",)


def test_containers_conf_of_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / "etc/containers.conf", "[containers]\ntz='etc'\nlog_tag='etc'\n")
    monkeypatch.setenv("CONTAINERS_CONF", str(write(home / "a", "[containers]\ntz='only'\n")))
    override = write(home / "b", "[containers]\numask='0000'\n")
    monkeypatch.setenv("CONTAINERS_CONF_OVERRIDE", str(override))
    held = config.load().containers
    assert (held.tz, held.log_tag, held.umask) == ("only", "", "0000")


def test_podpy_toml_is_last_and_strict(home: Path) -> None:
    write(home / "etc/containers.conf", "[engine]\nstop_timeout=1\nconmon_path=['/x']\n")
    own = write(home / ".config/podpy/podpy.toml", "[engine]\nstop_timeout=2\n")
    loaded = config.load()
    assert loaded.engine.stop_timeout == 2
    assert loaded.unused == (f"{home}/etc/containers.conf: engine.conmon_path",)
    own.write_text("[engine]\nstop_timeuot=2\n")
    with pytest.raises(UsageError, match="stop_timeuot"):
        config.load()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[containers]\ninit='yes'\n", "containers.init must be true or false"),
        ("[containers]\nenv='A=1'\n", "containers.env must be an array of strings"),
        ("[engine]\nstop_timeout=true\n", "engine.stop_timeout must be a whole number"),
        ("[containers\n", "containers.conf"),
    ],
)
def test_a_wrong_file_is_named(home: Path, text: str, complaint: str) -> None:
    write(home / "etc/containers.conf", text)
    with pytest.raises(UsageError, match=complaint.replace(".", r"\.")):
        config.load()


def test_the_graphroot_of_a_user_gives_podpy_a_directory_of_its_own(home: Path) -> None:
    write(home / "etc/storage.conf", "[storage]\ndriver='overlay'\ngraphroot='/var/lib/x'\n")
    write(home / ".config/containers/storage.conf", "[storage]\ngraphroot='$HOME/store'\n")
    loaded = config.load().storage
    assert loaded.driver == "overlay"
    # /var/lib/x is in a file outside /etc here, and replaced by the user's.
    assert loaded.root == f"{home}/store/podpy"


def test_storage_driver_of_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_DRIVER", "vfs")
    assert config.load().storage.driver == "vfs"
    monkeypatch.setenv("STORAGE_DRIVER", "zfs")
    with pytest.raises(UsageError, match="zfs"):
        config.load()


def test_registries_conf_with_its_drop_ins(home: Path) -> None:
    text = "unqualified-search-registries=['a.io']\nshort-name-mode='permissive'\n"
    text += "[[registry]]\nlocation='b.io'\ninsecure=true\n[aliases]\nx='a.io/x'\ny='a.io/y'\n"
    write(home / "etc/registries.conf", text)
    drop_in = "[[registry]]\nlocation='b.io'\nblocked=true\n[[registry]]\nprefix='*.c.io'\n"
    write(home / "etc/registries.conf.d/1.conf", drop_in + "[aliases]\ny='b.io/y'\n")
    held = config.load().registries
    assert held.search == ("a.io",)
    assert held.aliases == {"x": "a.io/x", "y": "b.io/y"}
    assert [(r.prefix, r.insecure, r.blocked) for r in held.rules] == [
        ("b.io", False, True),
        ("*.c.io", False, False),
    ]


def test_a_users_registries_conf_stands_for_the_systems(home: Path) -> None:
    write(home / "etc/registries.conf.d/1.conf", "[aliases]\nx='a.io/x'\n")
    own = home / ".config/containers/registries.conf"
    write(own, "unqualified-search-registries=['u.io']\n")
    held = config.load().registries
    assert (held.search, held.aliases) == (("u.io",), {})


@pytest.mark.parametrize(
    "text",
    [
        "[registries.search]\nregistries=['a']\n",
        "[[registry]]\ninsecure=true\n",
        "[[registry]]\nprefix='*.a.io/x'\n",
        "[[registry]]\nlocation='a.io'\n[[registry.mirror]]\ninsecure=true\n",
        "short-name-mode='maybe'\n",
    ],
)
def test_a_wrong_registries_conf_is_refused(home: Path, text: str) -> None:
    write(home / "etc/registries.conf", text)
    with pytest.raises(UsageError, match=r"registries\.conf"):
        config.load()


def test_the_cache_holds_until_a_file_changes(home: Path) -> None:
    path = write(home / "etc/containers.conf", "[containers]\ntz='a'\n")
    first = config.load()
    for name in ("podpy.conffiles", "tomllib"):
        sys.modules.pop(name, None)
    assert config.load() == first
    assert "podpy.conffiles" not in sys.modules, "nothing changed, and TOML was read again"
    path.write_text("[containers]\ntz='bb'\n")
    assert config.load().containers.tz == "bb"
    write(home / "etc/containers.conf.d/1.conf", "[containers]\ntz='ccc'\n")
    assert config.load().containers.tz == "ccc"


def test_a_damaged_cache_is_made_again(home: Path) -> None:
    config.load()
    (home / ".cache/podpy/config.json").write_text('{"key": [')
    assert config.load() == Config()


def test_a_home_that_cannot_be_written_is_no_error(home: Path) -> None:
    (home / ".cache").write_text("a file where the directory should be")
    assert config.load() == Config()
