"""Records: frozen objects with named fields, which JSON files can be made of.

They are declared with :func:`record`, which type checkers read as a frozen,
keyword-only dataclass.  The real ``dataclasses`` module costs 18 ms to import;
this file of plain code costs less than one, and every command imports it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeVar

    from typing_extensions import dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_: object):
        """Type checkers read it; at run time it does nothing."""
        return lambda decorated: decorated


EMPTY: Mapping[str, Any] = {}


def _init(self: Any, **values: Any) -> None:
    cls = type(self)
    put = object.__setattr__
    for name in cls._fields:
        if name in values:
            put(self, name, values.pop(name))
        elif name in cls._defaults:
            put(self, name, cls._defaults[name])
        else:
            raise TypeError(f"{cls.__name__}: no value for {name!r}")
    if values:
        raise TypeError(f"{cls.__name__}: no field {next(iter(values))!r}")


def _frozen(self: Any, name: str, _value: object = None) -> None:
    raise AttributeError(f"{type(self).__name__}.{name}: records are frozen")


def _equal(self: Any, other: Any) -> bool:
    return type(self) is type(other) and all(
        getattr(self, name) == getattr(other, name) for name in self._fields
    )


def _hash(self: Any) -> int:
    return hash(tuple(repr(getattr(self, name)) for name in self._fields))


def _repr(self: Any) -> str:
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
    return f"{type(self).__name__}({values})"


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen record with keyword-only fields.

    Fields are the annotated names; a value in the class body is the default
    and must be immutable (``()`` for sequences, :data:`EMPTY` for maps).
    ``_nested`` names the record class of fields that hold records, alone, in a
    sequence or as the values of a map, for :func:`from_dict`.
    """
    fields = tuple(n for n in cls.__annotations__ if not n.startswith("_"))
    defaults = {n: cls.__dict__[n] for n in fields if n in cls.__dict__}
    body: dict[str, Any] = {
        k: v
        for k, v in cls.__dict__.items()
        if k not in defaults and k not in ("__dict__", "__weakref__")
    }
    body.update(
        __slots__=fields, _fields=fields, _defaults=defaults,
        __init__=_init, __setattr__=_frozen, __delattr__=_frozen,
        __eq__=_equal, __hash__=_hash,
    )  # fmt: skip
    body.setdefault("__repr__", _repr)  # a record of secrets has its own
    body.setdefault("_nested", {})
    return type(cls.__name__, cls.__bases__, body)


def replace(instance: T, **changes: Any) -> T:
    """A copy of a record with some fields changed."""
    fields: Any = type(instance)
    values = {name: getattr(instance, name) for name in fields._fields}
    values.update(changes)
    made: T = fields(**values)
    return made


def to_dict(value: Any) -> Any:
    """Records, tuples and maps as what JSON knows: dict, list, str, numbers."""
    if hasattr(value, "_fields"):
        return {name: to_dict(getattr(value, name)) for name in value._fields}
    if isinstance(value, (list, tuple)):
        return [to_dict(item) for item in value]
    if isinstance(value, dict):
        return {key: to_dict(item) for key, item in value.items()}
    if isinstance(value, str):
        return str(value)
    return value


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """The record that :func:`to_dict` made ``values`` of; unknown keys are left out."""
    made: Any = cls
    arguments = {
        name: _revive(made._nested.get(name), values[name])
        for name in made._fields
        if name in values
    }
    result: T = made(**arguments)
    return result


def _revive(nested: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_revive(nested, item) for item in value)
    if nested is None or value is None:
        return value
    if not isinstance(value, dict):
        return nested(value)
    fields = getattr(nested, "_fields", None)
    if fields is None or (value and not set(fields) & set(value)):
        return {key: _revive(nested, item) for key, item in value.items()}
    return from_dict(nested, value)
