"""The instructions of a pickle, followed without calling anything: what would be called is put down as a note.

    tree = follow(io.BytesIO(data), persistent=lambda key: Storage(...))

``Call("collections.OrderedDict", ...)`` is what is left of a call. No import happens in here, whatever the file names.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

MOST_INSTRUCTIONS = 20_000_000
MOST_DIGITS = 4_000
"""A number of more digits is no setting of anybody's."""


class Refused(Exception):  # noqa: N818  (reads as what happened: it was refused)
    """The file is damaged, or is not what it says; the message says which."""


@dataclass(frozen=True)
class Name:
    """A function or class that the file names; only its name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Call:
    """What a call would have been: a name, and what it would have been given."""

    function: Any
    arguments: tuple[Any, ...] = ()
    state: list[Any] = field(default_factory=list)
    """What would have been put into the object afterwards."""
    items: dict[Any, Any] = field(default_factory=dict)
    """What would have been set by key."""


@dataclass(frozen=True)
class Extension:
    """A name by its number in Python's registry of extensions; never looked up."""

    code: int


_MARK = object()


def follow(file: BinaryIO, persistent: Callable[[Any], Any]) -> Any:
    """Return what one pickle describes: dicts, lists, tuples, numbers, texts, and notes in place of everything else.

    Args:
        file: Stands at the pickle's beginning, and behind its end afterwards.
        persistent: Told each persistent id; what it returns stands for it.

    Raises:
        Refused: It is no pickle, or a broken one.
    """
    try:
        return _Machine(persistent).run(file)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, UnicodeError, OverflowError) as error:
        message = f"its pickle is damaged ({type(error).__name__}: {str(error)[:120]})"
        raise Refused(message) from error
    except RecursionError as error:
        message = "its pickle is nested too deeply to be a checkpoint"
        raise Refused(message) from error


class _Machine:
    def __init__(self, persistent: Callable[[Any], Any]) -> None:
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: BinaryIO) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MOST_INSTRUCTIONS:
                message = f"its pickle has more than {MOST_INSTRUCTIONS:,} instructions"
                raise Refused(message)
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        message = "its pickle has no end"
        raise Refused(message)

    def _step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _MAKE:
            self.stack.append(_MAKE[name]())
        elif name in _PUT or name in _GET:
            self._remember(name, argument)
        else:
            getattr(self, f"_{name.lower()}", self._unknown(name))(argument)

    def _unknown(self, name: str) -> Callable[[Any], None]:
        def refuse(_: Any) -> None:
            message = f"its pickle has the instruction {name}, which no checkpoint has"
            raise Refused(message)

        return refuse

    def _remember(self, name: str, argument: Any) -> None:
        if name in _GET:
            self.stack.append(self.memo[int(argument)])
        else:
            self.memo[len(self.memo) if argument is None else int(argument)] = self.stack[-1]

    def _since_mark(self) -> list[Any]:
        place = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    # Each of the rest follows the instruction of its name.
    def _proto(self, _: Any) -> None: ...
    def _frame(self, _: Any) -> None: ...
    def _readonly_buffer(self, _: Any) -> None: ...

    def _mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _tuple1(self, _: Any) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def _tuple2(self, _: Any) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def _tuple3(self, _: Any) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def _list(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def _dict(self, _: Any) -> None:
        self.stack.append(_pairs(self._since_mark()))

    def _frozenset(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def _additems(self, _: Any) -> None:
        self._appends(_)

    def _append(self, _: Any) -> None:
        value = self.stack.pop()
        _extend(self.stack[-1], [value])

    def _appends(self, _: Any) -> None:
        values = self._since_mark()
        _extend(self.stack[-1], values)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _update(self.stack[-1], {_key(key): value})

    def _setitems(self, _: Any) -> None:
        values = self._since_mark()
        _update(self.stack[-1], _pairs(values))

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Name(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            message = "its pickle names a function by something that is no text"
            raise Refused(message)
        self.stack.append(Name(module, name))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(Call(function, arguments if isinstance(arguments, tuple) else (arguments,)))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        named, arguments, function = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.stack.append(Call(function, (arguments, named)))

    def _inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Call(Name(module, name), tuple(self._since_mark())))

    def _obj(self, _: Any) -> None:
        function, *arguments = self._since_mark()
        self.stack.append(Call(function, tuple(arguments)))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Call):
            self.stack[-1].state.append(state)

    def _ext1(self, code: int) -> None:
        self.stack.append(Extension(code))

    _ext2 = _ext4 = _ext1

    def _persid(self, argument: str) -> None:
        self.stack.append(self.persistent(argument))

    def _binpersid(self, _: Any) -> None:
        self.stack.append(self.persistent(self.stack.pop()))


_VALUES = frozenset(
    (
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
    )
)
_MAKE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,
}
_PUT = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_GET = frozenset(("GET", "BINGET", "LONG_BINGET"))


def _key(value: Any) -> Any:
    """Return a key of a dict that can be one; what cannot (a list, a note on a call) is kept by its own identity."""
    if isinstance(value, (str, int, float, bytes, bool, Name)) or value is None:
        return value
    return Call(value)


def _pairs(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        message = "its pickle has a dict with a key too many"
        raise Refused(message)
    return {_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)}


def _extend(held: Any, values: list[Any]) -> None:
    if isinstance(held, list):
        held.extend(values)
    elif not isinstance(held, Call):
        message = f"its pickle appends to a {type(held).__name__}"
        raise Refused(message)


def _update(held: Any, values: dict[Any, Any]) -> None:
    if isinstance(held, dict):
        held.update(values)
    elif isinstance(held, Call):
        held.items.update(values)
    else:
        message = f"its pickle sets a key of a {type(held).__name__}"
        raise Refused(message)
