"""Go templates, as ``--format`` takes them: run a tree of :mod:`podpy.cli.template` on data.

Data is what JSON knows, plus :class:`podpy.cli.values.View`.
"""

from __future__ import annotations

from podpy import files
from podpy.cli.template import TemplateError
from podpy.cli.values import View, find, show, truthy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from podpy.cli.template import Node

# Fields whose value maps names that the user chose: a missing key there is no error.
_FREE_MAPS = (
    "labels", "annotations", "options", "networks", "ports", "sysctls", "portbindings", "volumes",
    "exposedports", "driveropts", "data", "config_",
)  # fmt: skip


class _Break(Exception):
    """``{{break}}``: caught by the innermost ``range``."""


class _Continue(Exception):
    """``{{continue}}``, likewise."""


def render(tree: Sequence[Node], data: Any) -> str:
    """The text that a template gives for ``data``."""
    out: list[str] = []
    _Run(out).body(tree, data, {"$": data})
    return "".join(out)


class _Run:
    """One evaluation: statements append to ``out``."""

    def __init__(self, out: list[str]) -> None:
        self._out = out

    # --- statements

    def body(self, nodes: Sequence[Node], dot: Any, variables: dict[str, Any]) -> None:
        for node in nodes:
            kind = node[0]
            if kind == "text":
                self._out.append(node[1])
            elif kind == "print":
                value = self._pipe(node[1], dot, variables)
                if not node[1][1]:
                    self._out.append(show(value))
            elif kind == "range":
                self._range(node, dot, variables)
            elif kind == "break":
                raise _Break
            elif kind == "continue":
                raise _Continue
            else:
                self._branch(node, dot, variables)

    def _branch(self, node: Node, dot: Any, variables: dict[str, Any]) -> None:
        kind, pipe, body, other = node
        scope = _Scope(variables)
        value = self._pipe(pipe, dot, scope)
        if truthy(value):
            self.body(body, value if kind == "with" else dot, scope)
        else:
            self.body(other, dot, scope)

    def _range(self, node: Node, dot: Any, variables: dict[str, Any]) -> None:
        _, pipe, body, other = node
        names = pipe[1]
        scope = _Scope(variables)
        value = self._pipe(("pipe", [], False, pipe[3]), dot, scope)
        count = 0
        for key, item in _items(value):
            count += 1
            inner = _Scope(scope)
            for name, given in zip(names, (key, item) if len(names) == 2 else (item,)):
                (inner if not pipe[2] else variables)[name] = given
            try:
                self.body(body, item, inner)
            except _Continue:
                continue
            except _Break:
                break
        if not count:
            self.body(other, dot, scope)

    # --- expressions

    def _pipe(self, pipe: Node, dot: Any, variables: dict[str, Any]) -> Any:
        _, names, assigns, commands = pipe
        piped: tuple[Any, ...] = ()
        for command in commands:
            piped = (self._command(command, piped, dot, variables),)
        for name in names:
            if assigns and isinstance(variables, _Scope):
                variables.assign(name, piped[0])
            else:
                variables[name] = piped[0]
        return piped[0]

    def _command(
        self, command: Sequence[Node], piped: tuple[Any, ...], dot: Any, variables: dict[str, Any]
    ) -> Any:
        first = command[0]
        if first[0] == "function":
            return self._call(first[1], command[1:], piped, dot, variables)
        arguments = [self._value(node, dot, variables) for node in command[1:]]
        arguments.extend(piped)
        if first[0] == "chain":
            return self._chain(first, arguments, dot, variables)
        if arguments:
            raise TemplateError("template: can't give argument to non-function")
        return self._value(first, dot, variables)

    def _call(
        self,
        name: str,
        nodes: Sequence[Node],
        piped: tuple[Any, ...],
        dot: Any,
        variables: dict[str, Any],
    ) -> Any:
        if name in ("and", "or"):  # these stop at the first operand that decides
            value: Any = None
            for position in range(len(nodes) + len(piped)):
                value = (
                    self._value(nodes[position], dot, variables)
                    if position < len(nodes)
                    else piped[0]
                )
                if truthy(value) == (name == "or"):
                    break
            return value
        function = FUNCTIONS.get(name)
        if function is None:
            raise TemplateError(
                f"template: function {name!r} not defined",
                hint="functions: and or " + " ".join(sorted(FUNCTIONS)),
            )
        arguments = [self._value(node, dot, variables) for node in nodes]
        try:
            return function(*arguments, *piped)
        except (TypeError, ValueError, IndexError) as error:
            raise TemplateError(f"template: error calling {name}: {error}") from None

    def _value(self, node: Node, dot: Any, variables: dict[str, Any]) -> Any:
        kind = node[0]
        if kind == "value":
            return node[1]
        if kind == "dot":
            return dot
        if kind == "nil":
            return None
        if kind == "variable":
            if node[1] not in variables:
                raise TemplateError(f"template: undefined variable {node[1]!r}")
            return variables[node[1]]
        if kind == "chain":
            return self._chain(node, (), dot, variables)
        if kind == "pipe":
            return self._pipe(node, dot, variables)
        return self._call(node[1], (), (), dot, variables)

    def _chain(
        self, node: Node, arguments: Sequence[Any], dot: Any, variables: dict[str, Any]
    ) -> Any:
        _, operand, names = node
        value = self._value(operand, dot, variables)
        owner = ""
        for position, name in enumerate(names):
            last = position == len(names) - 1
            value = _field(value, name, arguments if last else (), owner)
            owner = name
        return value


class _Scope(dict):  # type: ignore[type-arg]
    """The variables of a block: new ones are its own, known ones come from outside."""

    def __init__(self, outer: dict[str, Any]) -> None:
        super().__init__(outer)
        self._outer = outer

    def assign(self, name: str, value: Any) -> None:
        """``$x = value``: where it was declared, and on the way there."""
        scope: Any = self
        while name in scope:
            scope[name] = value
            scope = getattr(scope, "_outer", {})


def _field(value: Any, name: str, arguments: Sequence[Any], owner: str) -> Any:
    if isinstance(value, View):
        return value.field(name, arguments)
    if arguments:
        raise TemplateError(f"template: {name} has arguments but is no function")
    if isinstance(value, dict):
        key = find(value, name)
        if key is not None:
            return value[key]
        if owner.lower() in _FREE_MAPS:
            return None
        raise TemplateError(f'template: map has no entry for key "{name}"')
    if value is None:
        raise TemplateError(f"template: nil value evaluating .{name}")
    raise TemplateError(f"template: can't evaluate field {name} in {show(value)!r}")


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if value is None:
        return iter(())
    if isinstance(value, dict):
        return iter(sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return iter(list(enumerate(value)))
    if isinstance(value, int) and not isinstance(value, bool):
        return iter([(number, number) for number in range(value)])
    raise TemplateError(f"template: range can't iterate over {show(value)}")


# --- functions ---------------------------------------------------------------


def _json(value: Any) -> str:
    return files.dumps(value.to_dict() if isinstance(value, View) else value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "")
        elif isinstance(value, (list, tuple, str)):
            if not isinstance(key, int) or not 0 <= key < len(value):
                raise IndexError(f"index out of range: {show(key)}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        elif value is None:
            raise ValueError("index of untyped nil")
        else:
            raise ValueError(f"can't index {show(value)}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    low, high = (*bounds, *(0, len(value))[len(bounds) :])[:2]
    if not 0 <= low <= high <= len(value):
        raise IndexError("slice bounds out of range")
    return value[low:high]


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if value is None:
        return 0
    return len(value)


def _join(items: Any, separator: str = ",") -> str:
    return separator.join(show(item) for item in items or ())


def _split(text: str, separator: str) -> list[str]:
    return list(text) if separator == "" else text.split(separator)


def _title(text: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


def _truncate(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length]


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _print(*values: Any) -> str:
    """Go's ``Sprint``: a space between two operands when neither is a string."""
    out = ""
    for position, value in enumerate(values):
        previous = values[position - 1] if position else ""
        if position and not isinstance(value, str) and not isinstance(previous, str):
            out += " "
        out += show(value)
    return out


def _println(*values: Any) -> str:
    return " ".join(show(value) for value in values) + "\n"


def _printf(format_: str, *values: Any) -> str:
    from podpy.cli.printf import printf

    return printf(format_, values)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    for other in others:
        if _kind(first) != _kind(other) and None not in (first, other):
            raise ValueError("incompatible types for comparison")
    return any(first == other for other in others)


def _less(first: Any, second: Any) -> bool:
    if _kind(first) != _kind(second):
        raise ValueError("incompatible types for comparison")
    return bool(first < second)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": _equal,
    "ge": lambda a, b: not _less(a, b),
    "gt": lambda a, b: _less(b, a),
    "index": _index,
    "join": _join,
    "json": _json,
    "le": lambda a, b: not _less(b, a),
    "len": _length,
    "lower": str.lower,
    "lt": _less,
    "ne": lambda a, b: not _equal(a, b),
    "not": lambda value: not truthy(value),
    "pad": _pad,
    "print": _print,
    "printf": _printf,
    "println": _println,
    "slice": _slice,
    "split": _split,
    "title": _title,
    "truncate": _truncate,
    "upper": str.upper,
}
