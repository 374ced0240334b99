"""The values of Go templates: how they print, what counts as true, and views of objects.

Values print as Go prints them: ``true``, ``[a b]``, ``map[k:v]``.
"""

from __future__ import annotations

from podpy.cli.template import TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

NO_VALUE = "<no value>"


class View:
    """An object with fields: names to functions of it, computed on demand.

    A function with more parameters is a method: ``{{.Label "key"}}``.
    ``shown`` are the fields that ``{{json .}}`` and ``--format json`` show.
    """

    __slots__ = ("_fields", "_item", "_shown")

    def __init__(
        self, item: Any, fields: Mapping[str, Callable[..., Any]], shown: Sequence[str] = ()
    ) -> None:
        self._item = item
        self._fields = fields
        self._shown = shown or tuple(fields)

    def field(self, name: str, arguments: Sequence[Any]) -> Any:
        wanted = find(self._fields, name)
        if wanted is None:
            raise TemplateError(
                f"template: no field {name!r}", hint="fields: " + " ".join(sorted(self._fields))
            )
        try:
            return self._fields[wanted](self._item, *arguments)
        except TypeError:
            raise TemplateError(f"template: wrong number of arguments for .{name}") from None

    def to_dict(self) -> dict[str, Any]:
        return {name: self._fields[name](self._item) for name in self._shown}


def find(fields: Mapping[str, Any], name: str) -> str | None:
    """The key that a field name means: exact, else without regard to case (``.Id``, ``.ID``)."""
    if name in fields:
        return name
    folded = name.lower()
    found = [key for key in fields if str(key).lower() == folded]
    return found[0] if len(found) == 1 else None


def truthy(value: Any) -> bool:
    """Go's idea of truth: everything but the empty value of its type."""
    return isinstance(value, View) or bool(value)


def show(value: Any) -> str:
    """A value as Go's ``%v`` prints it."""
    if isinstance(value, str):
        return value
    if value is None:
        return NO_VALUE
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, View):
        value = value.to_dict()
    if isinstance(value, dict):
        pairs = " ".join(f"{key}:{show(item)}" for key, item in sorted(value.items()))
        return f"map[{pairs}]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show(item) for item in value) + "]"
    return str(value)
