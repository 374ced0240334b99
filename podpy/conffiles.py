"""Reading and merging the configuration files; imported only when one has changed.

The rules, per file:

* ``containers.conf``: tables are merged key by key, later files win; an array
  is replaced, or extended when it holds ``{append=true}``.
* ``storage.conf``: likewise.  ``graphroot`` and ``runroot`` count only in the
  user's own file: those of ``/etc`` are root's.
* ``registries.conf``: a later ``[[registry]]`` of the same prefix replaces the
  earlier one, aliases are merged by name, other keys are replaced.
* ``podpy.toml``: ``[containers]``, ``[network]``, ``[engine]`` as above, and
  ``[storage]`` with the fields of :class:`podpy.settings.StorageConfig`.  The
  file is podpy's own: an unknown key in it is an error.

In the shared files a key that podpy does not act on is no error, as other
tools read them too; it is listed in ``Config.unused``.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from podpy import paths
from podpy.errors import UsageError
from podpy.records import replace
from podpy.settings import (
    DRIVERS,
    Candidates,
    Config,
    ContainerDefaults,
    Endpoint,
    EngineDefaults,
    NetworkDefaults,
    Registries,
    RegistryRule,
    StorageConfig,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable

_TABLES: dict[str, Any] = {
    "containers": ContainerDefaults,
    "network": NetworkDefaults,
    "engine": EngineDefaults,
}


def merge(candidates: Candidates) -> Config:
    """Read every candidate that exists and merge them."""
    return _Merge().run(candidates)


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "str": (lambda value: isinstance(value, str), "a string"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "int": (_is_int, "a whole number"),
    "tuple": (_is_strings, "an array of strings"),
}


def _checked(path: str, key: str, annotation: str, value: Any) -> Any:
    """``value`` when it is of the type that the record's field declares."""
    check, wanted = _CHECKS[annotation.partition("[")[0].partition(" ")[0]]
    if not check(value):
        raise UsageError(f"{path}: {key} must be {wanted}, not {value!r}")
    return tuple(value) if isinstance(value, list) else value


class _Merge:
    """The state of one merge; every method adds one kind of file to it."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.unused: list[str] = []
        self.values: dict[str, dict[str, Any]] = {name: {} for name in _TABLES}
        self.storage = StorageConfig()
        self.registries = Registries()

    def run(self, candidates: Candidates) -> Config:
        for path in candidates.containers:
            self._read(path, self._containers)
        for path in candidates.storage:
            self._read(path, self._storage)
        for path in candidates.registries:
            self._read(path, self._registries)
        for path in candidates.podpy:
            self._read(path, self._podpy)
        if driver := os.environ.get("STORAGE_DRIVER"):
            self.storage = replace(self.storage, driver=_driver("STORAGE_DRIVER", driver))
        made = {name: cls(**self.values[name]) for name, cls in _TABLES.items()}
        return Config(
            **made,
            storage=self.storage,
            registries=self.registries,
            files=tuple(self.files),
            unused=tuple(self.unused),
        )

    def _read(self, path: str, add: Callable[[str, dict[str, Any]], None]) -> None:
        try:
            with open(path, "rb") as file:
                content = tomllib.load(file)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: {error}") from None
        self.files.append(path)
        add(path, content)

    def _containers(self, path: str, content: dict[str, Any]) -> None:
        for table, values in content.items():
            if table not in _TABLES or not isinstance(values, dict):
                self.unused.append(f"{path}: {table}")
                continue
            known = _TABLES[table].__annotations__
            for key, value in values.items():
                if key == "default_subnet_pools":
                    self.values[table][key] = _pools(path, value)
                elif key in known:
                    self._set(path, table, key, value)
                else:
                    self.unused.append(f"{path}: {table}.{key}")

    def _set(self, path: str, table: str, key: str, value: Any) -> None:
        append = False
        if isinstance(value, list):
            attributes = [item for item in value if isinstance(item, dict)]
            append = any(item.get("append") is True for item in attributes)
            value = [item for item in value if not isinstance(item, dict)]
        annotation = _TABLES[table].__annotations__[key]
        checked = _checked(path, f"{table}.{key}", annotation, value)
        held = self.values[table].get(key) or ()
        self.values[table][key] = (*held, *checked) if append else checked

    def _podpy(self, path: str, content: dict[str, Any]) -> None:
        before = len(self.unused)
        self._containers(path, {k: v for k, v in content.items() if k != "storage"})
        if len(self.unused) > before:
            raise UsageError(f"{self.unused[before]}: no such key in podpy.toml")
        fields: Any = StorageConfig
        known = fields.__annotations__
        for key, value in content.get("storage", {}).items():
            if key not in known or key.startswith("_"):
                raise UsageError(f"{path}: storage.{key}: no such key in podpy.toml")
            checked = _checked(path, f"storage.{key}", known[key], value)
            if key == "driver":
                checked = _driver(path, checked)
            elif key in ("root", "runroot"):
                checked = _directory(path, key, checked)
            self.storage = replace(self.storage, **{key: checked})

    def _storage(self, path: str, content: dict[str, Any]) -> None:
        storage = content.get("storage", {})
        options = storage.get("options", {})
        overlay = {**options, **options.get("overlay", {})}
        changes: dict[str, Any] = {}
        if storage.get("driver") in DRIVERS:
            changes["driver"] = storage["driver"]
        if program := overlay.get("mount_program"):
            changes["mount_program"] = _checked(path, "mount_program", "str", program)
        if not path.startswith(("/etc/", "/usr/")):
            changes.update(_directories(path, storage))
        self.storage = replace(self.storage, **changes)
        acted = {"driver", "graphroot", "runroot", "rootless_storage_path", "options"}
        self.unused += [f"{path}: storage.{key}" for key in storage if key not in acted]
        known = {"mount_program", "overlay"}
        self.unused += [f"{path}: storage.options.{key}" for key in overlay if key not in known]

    def _registries(self, path: str, content: dict[str, Any]) -> None:
        if "registries" in content:
            raise UsageError(
                f"{path}: version 1 of the format ([registries.*] tables) is not supported",
                hint="use unqualified-search-registries and [[registry]] tables",
            )
        changes = _registry_settings(path, content)
        rules = {rule.prefix: rule for rule in self.registries.rules}
        for table in content.get("registry", []):
            rule = _rule(path, table)
            rules[rule.prefix] = rule
        aliases = {**self.registries.aliases, **_aliases(path, content.get("aliases", {}))}
        self.registries = replace(
            self.registries, rules=tuple(rules.values()), aliases=aliases, **changes
        )


def _pools(path: str, value: object) -> tuple[str, ...]:
    """``default_subnet_pools``, an array of ``{base = "10.89.0.0/16", size = 24}``."""
    found = []
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, dict) or set(entry) != {"base", "size"}:
            raise UsageError(
                f"{path}: network.default_subnet_pools must be an array of tables, not {value!r}",
                hint='default_subnet_pools = [{base = "10.89.0.0/16", size = 24}]',
            )
        base = _checked(path, "default_subnet_pools: base", "str", entry["base"])
        found.append(f"{base} {_checked(path, 'default_subnet_pools: size', 'int', entry['size'])}")
    return tuple(found)


def _driver(path: str, name: str) -> str:
    if name not in DRIVERS:
        raise UsageError(f"{path}: no storage driver {name!r}", hint="use " + ", ".join(DRIVERS))
    return name


def _directory(path: str, key: str, value: str) -> str:
    """An absolute directory; ``~``, ``$HOME``, ``$UID`` and the environment are filled in."""
    home, uid = paths.home(), str(os.getuid())
    filled = value.replace("$HOME", home).replace("$UID", uid)
    filled = os.path.expandvars(home + filled[1:] if filled.startswith("~/") else filled)
    if not filled.startswith("/") or "$" in filled:
        raise UsageError(f"{path}: {key} must be an absolute path, not {value!r}")
    return filled


def _directories(path: str, storage: dict[str, Any]) -> dict[str, str]:
    """podpy's places below the user's ``graphroot`` and ``runroot``."""
    found = {}
    root = storage.get("rootless_storage_path") or storage.get("graphroot")
    for field, value in (("root", root), ("runroot", storage.get("runroot"))):
        if value:
            text = _checked(path, field, "str", value)
            found[field] = _directory(path, field, text) + "/podpy"
    return found


def _registry_settings(path: str, content: dict[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key, field in (
        ("unqualified-search-registries", "search"),
        ("credential-helpers", "credential_helpers"),
    ):
        if key in content:
            changes[field] = _checked(path, key, "tuple", content[key])
    if mode := content.get("short-name-mode"):
        if mode not in ("enforcing", "permissive", "disabled"):
            raise UsageError(f"{path}: short-name-mode: {mode!r} is no mode")
        changes["short_name_mode"] = mode
    return changes


def _aliases(path: str, table: dict[str, Any]) -> dict[str, str]:
    """An empty value takes an alias of an earlier file away; the resolver skips it."""
    return {name: _checked(path, f"aliases.{name}", "str", to) for name, to in table.items()}


def _rule(path: str, table: dict[str, Any]) -> RegistryRule:
    """One ``[[registry]]`` table; ``prefix`` and ``location`` stand for each other."""
    values = {key: _checked(path, key, "str", table.get(key, "")) for key in ("prefix", "location")}
    prefix, location = values["prefix"].rstrip("/"), values["location"].rstrip("/")
    if not prefix and not location:
        raise UsageError(f"{path}: a [[registry]] table has neither prefix nor location")
    if prefix.startswith("*.") and not set("/@:").isdisjoint(prefix):
        raise UsageError(f"{path}: prefix {prefix!r}: after *. only a domain may follow")
    if not location and not prefix.startswith("*."):
        location = prefix
    default = "digest-only" if table.get("mirror-by-digest-only", False) else "all"
    return RegistryRule(
        prefix=prefix or location,
        location=location,
        insecure=_checked(path, "insecure", "bool", table.get("insecure", False)),
        blocked=_checked(path, "blocked", "bool", table.get("blocked", False)),
        mirrors=tuple(_mirror(path, entry, default) for entry in table.get("mirror", [])),
    )


def _mirror(path: str, table: dict[str, Any], default: str) -> Endpoint:
    location = _checked(path, "mirror.location", "str", table.get("location", "")).rstrip("/")
    if not location:
        raise UsageError(f"{path}: a [[registry.mirror]] table has no location")
    pull = table.get("pull-from-mirror", default)
    if pull not in ("all", "digest-only", "tag-only"):
        raise UsageError(f"{path}: pull-from-mirror: {pull!r} is neither all nor -only")
    insecure = _checked(path, "mirror.insecure", "bool", table.get("insecure", False))
    return Endpoint(location=location, insecure=insecure, pull=pull)
