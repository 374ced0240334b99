"""Go templates, as ``--format`` takes them: text to a tree.

The language is that of Go's ``text/template`` without ``define``, ``template``
and ``block``: actions with pipelines, ``if``, ``range``, ``with``, ``else``,
``break``, ``continue``, variables, comments and ``{{-`` trimming.
:mod:`podpy.cli.evaluate` runs the tree.  Nothing is imported, because
``ps --format`` is often called in a loop.

A tree is made of tuples whose first item names the kind:

* statements: ``("text", str)``, ``("print", pipe)``, ``("if", pipe, body, other)``, so for
  ``with`` and ``range``; ``("break",)``, ``("continue",)``
* a pipe: ``("pipe", names, assigns, commands)``: the variables it sets, whether by ``=``
  instead of ``:=``, and its commands, each a list of operands
* operands: ``("dot",)``, ``("nil",)``, ``("value", constant)``, ``("function", name)``,
  ``("variable", name)``, ``("chain", operand, names)`` and a pipe in parentheses
"""

from __future__ import annotations

from podpy.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Node = tuple[Any, ...]
    Token = tuple[str, str]

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_HEX_LENGTH = {"x": 2, "u": 4, "U": 8}
_SPACE = " \t\r\n"
_BLOCKS = ("if", "range", "with")


class TemplateError(UsageError):
    """A template that cannot be parsed, or does not fit the data."""


def parse(text: str) -> list[Node]:
    """The statements of a template; :class:`TemplateError` says what is wrong with it."""
    return _Parser(_split(text)).document()


# --- text and actions --------------------------------------------------------


def _split(text: str) -> list[tuple[str, str]]:
    """``("text", …)`` and ``("action", …)`` in order, trimmed, without comments."""
    parts: list[tuple[str, str]] = []
    position, trim = 0, False
    while True:
        start = text.find("{{", position)
        literal = text[position:] if start < 0 else text[position:start]
        if trim:
            literal = literal.lstrip(_SPACE)
        if start < 0:
            parts.append(("text", literal))
            return parts
        body = start + 2
        if text[body : body + 1] == "-" and text[body + 1 : body + 2] in tuple(_SPACE):
            literal = literal.rstrip(_SPACE)
            body += 1
        parts.append(("text", literal))
        end = _action_end(text, body)
        action = text[body:end]
        trim = len(action) > 1 and action[-1] == "-" and action[-2] in _SPACE
        if trim:
            action = action[:-1]
        action = action.strip(_SPACE)
        if not (action.startswith("/*") and action.endswith("*/")):
            parts.append(("action", action))
        position = end + 2


def _action_end(text: str, position: int) -> int:
    """Where the action that starts at ``position`` has its ``}}``, which strings may hold too."""
    if text[position:].lstrip(_SPACE).startswith("/*"):
        position = text.find("*/", position)
        end = text.find("}}", position) if position >= 0 else -1
        if end < 0:
            raise TemplateError("template: unclosed comment")
        return end
    while position < len(text):
        if text.startswith("}}", position):
            return position
        if text[position] in "\"'`":
            position = _quoted_end(text, position)
        else:
            position += 1
    raise TemplateError("template: unclosed action")


def _quoted_end(text: str, position: int) -> int:
    """The index behind the quoted constant that starts at ``position``."""
    quote = text[position]
    position += 1
    while position < len(text):
        if text[position] == quote:
            return position + 1
        position += 2 if text[position] == "\\" and quote != "`" else 1
    raise TemplateError("template: unterminated quoted string")


# --- tokens of an action -----------------------------------------------------


def _is_word(character: str) -> bool:
    return character == "_" or character.isalnum()


def _tokens(action: str) -> list[Token]:
    """``(kind, text)``: word, field, variable, number, string, space and punctuation."""
    tokens: list[Token] = []
    position = 0
    while position < len(action):
        start = position
        character = action[position]
        if character in _SPACE:
            while position < len(action) and action[position] in _SPACE:
                position += 1
            tokens.append(("space", ""))
        elif character in "\"`'":
            position = _quoted_end(action, position)
            tokens.append(_constant(action[start:position]))
        elif character in ".$":
            position = _word_end(action, position + 1)
            kind = "field" if character == "." else "variable"
            if kind == "field" and action[start + 1 : start + 2].isdigit():
                kind = "number"
            tokens.append((kind, action[start:position]))
        elif character.isdigit() or (
            character in "+-" and action[position + 1 : position + 2].isdigit()
        ):
            position = _number_end(action, position + 1)
            tokens.append(("number", action[start:position]))
        elif _is_word(character):
            position = _word_end(action, position)
            tokens.append(("word", action[start:position]))
        elif action.startswith(":=", position):
            position += 2
            tokens.append((":=", ":="))
        elif character in "|(),=":
            position += 1
            tokens.append((character, character))
        else:
            raise TemplateError(f"template: unexpected {character!r} in {{{{{action}}}}}")
    return tokens


def _word_end(text: str, position: int) -> int:
    while position < len(text) and _is_word(text[position]):
        position += 1
    return position


def _number_end(text: str, position: int) -> int:
    while position < len(text) and (_is_word(text[position]) or text[position] == "."):
        position += 1
    return position


def _constant(quoted: str) -> Token:
    body = quoted[1:-1]
    if quoted[0] == "`":
        return ("string", body)
    text = _unescape(body)
    if quoted[0] == '"':
        return ("string", text)
    if len(text) != 1:
        raise TemplateError(f"template: malformed character constant: {quoted}")
    return ("number", str(ord(text)))


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    result = ""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\":
            result += character
            continue
        escape = text[position : position + 1]
        position += 1
        if escape in _HEX_LENGTH:
            digits = text[position : position + _HEX_LENGTH[escape]]
            position += len(digits)
            try:
                result += chr(int(digits, 16))
            except ValueError:
                raise TemplateError(f"template: bad escape \\{escape}{digits}") from None
        else:
            result += _ESCAPES.get(escape, escape)
    return result


def _number(text: str) -> int | float:
    for convert in (lambda digits: int(digits, 0), float):
        try:
            value: int | float = convert(text)
        except ValueError:
            continue
        return value
    raise TemplateError(f"template: bad number: {text}")


# --- the tree ----------------------------------------------------------------


class _Parser:
    def __init__(self, parts: list[tuple[str, str]]) -> None:
        self._parts = parts
        self._position = 0
        self._loops = 0

    def document(self) -> list[Node]:
        body, ending = self._body()
        if ending:
            raise TemplateError(f"template: unexpected {{{{{ending}}}}}")
        return body

    def _body(self) -> tuple[list[Node], str]:
        """Statements up to ``else``, ``end`` (returned as the ending) or the end of the text."""
        body: list[Node] = []
        while self._position < len(self._parts):
            kind, text = self._parts[self._position]
            self._position += 1
            if kind == "text":
                if text:
                    body.append(("text", text))
                continue
            keyword = text.split(None, 1)[0] if text else ""
            if keyword in ("else", "end"):
                return body, text
            body.append(self._statement(keyword, text))
        return body, ""

    def _statement(self, keyword: str, action: str) -> Node:
        if keyword in _BLOCKS:
            return self._block(keyword, action[len(keyword) :])
        if keyword in ("break", "continue"):
            if not self._loops:
                raise TemplateError(f"template: {{{{{keyword}}}}} outside {{{{range}}}}")
            return (keyword,)
        if keyword in ("define", "template", "block"):
            raise TemplateError(f"template: {{{{{keyword}}}}} is not supported in --format")
        return ("print", pipeline(action))

    def _block(self, keyword: str, condition: str) -> Node:
        pipe = pipeline(condition)
        self._loops += keyword == "range"
        body, ending = self._body()
        self._loops -= keyword == "range"
        other: list[Node] = []
        if ending.startswith("else"):
            other = self._otherwise(keyword, ending[len("else") :].strip(_SPACE))
        elif ending != "end":
            raise TemplateError(f"template: {{{{{keyword}}}}} without {{{{end}}}}")
        return (keyword, pipe, body, other)

    def _otherwise(self, keyword: str, rest: str) -> list[Node]:
        """What follows ``{{else}}``; ``{{else if x}}`` is an ``if`` with a common ``{{end}}``."""
        if rest:
            chained = rest.split(None, 1)[0]
            if chained not in ("if", "with") or (chained == "with" and keyword != "with"):
                raise TemplateError(f"template: unexpected {{{{else {rest}}}}}")
            return [self._block(chained, rest[len(chained) :])]
        other, ending = self._body()
        if ending != "end":
            raise TemplateError(f"template: {{{{{keyword}}}}} without {{{{end}}}}")
        return other


def pipeline(action: str) -> Node:
    """The pipe of one action."""
    reader = _Pipe(_tokens(action), action)
    pipe = reader.pipe()
    reader.finish()
    return pipe


class _Pipe:
    """Recursive descent over the tokens of one action."""

    def __init__(self, tokens: list[Token], action: str) -> None:
        self._tokens = tokens
        self._position = 0
        self._action = action

    def _peek(self) -> str:
        return self._tokens[self._position][0] if self._position < len(self._tokens) else ""

    def _skip(self) -> None:
        while self._peek() == "space":
            self._position += 1

    def _fail(self, problem: str) -> TemplateError:
        return TemplateError(f"template: {problem} in {{{{{self._action.strip()}}}}}")

    def finish(self) -> None:
        self._skip()
        if self._peek():
            raise self._fail(f"unexpected {self._tokens[self._position][1]!r}")

    def pipe(self) -> Node:
        names, assigns = self._declaration()
        commands = [self._command()]
        while self._peek() == "|":
            self._position += 1
            commands.append(self._command())
        return ("pipe", names, assigns, commands)

    def _declaration(self) -> tuple[list[str], bool]:
        """``$x :=``, ``$x =`` or ``$i, $x :=`` at the start of a pipe."""
        start = self._position
        names: list[str] = []
        self._skip()
        while self._peek() == "variable" and len(names) < 2:
            names.append(self._tokens[self._position][1])
            self._position += 1
            self._skip()
            if self._peek() == ",":
                self._position += 1
                self._skip()
            elif self._peek() in (":=", "="):
                assigns = self._peek() == "="
                self._position += 1
                return names, assigns
        self._position = start
        return [], False

    def _command(self) -> list[Node]:
        operands: list[Node] = []
        while True:
            self._skip()
            kind = self._peek()
            if kind in ("", "|", ")"):
                break
            operands.append(self._operand())
        if not operands:
            raise self._fail("missing value")
        return operands

    def _operand(self) -> Node:
        operand = self._term()
        names: list[str] = []
        while self._peek() == "field":
            field = self._tokens[self._position][1][1:]
            if not field:
                raise self._fail("unexpected '.'")
            names.append(field)
            self._position += 1
        return ("chain", operand, names) if names else operand

    def _term(self) -> Node:
        kind, text = self._tokens[self._position]
        if kind == "field":
            if len(text) > 1:
                return ("dot",)  # the chain reads the field itself
            self._position += 1
            return ("dot",)
        self._position += 1
        if kind == "variable":
            return ("variable", text)
        if kind == "number":
            return ("value", _number(text))
        if kind == "string":
            return ("value", text)
        if kind == "word":
            return _word(text)
        if kind == "(":
            inner = self.pipe()
            self._skip()
            if self._peek() != ")":
                raise self._fail("unclosed left parenthesis")
            self._position += 1
            return inner
        raise self._fail(f"unexpected {text!r}")


def _word(text: str) -> Node:
    if text in ("true", "false"):
        return ("value", text == "true")
    return ("nil",) if text == "nil" else ("function", text)
