"""Read a pickle as data: a stack machine of our own, which has no way to call or import anything.

A pickle is a program for Python's unpickler, and some published checkpoints hold objects of
training libraries beside their tensors, which torch's `weights_only` reader rightly refuses. Here
the standard library parses the opcodes (`pickletools.genops`, which runs none of them) and this
module carries them out on lists, dicts, tuples and sets. A class or function stays the `Name` that
the file gives; what it would have made stays `Foreign`, without content. Only for the few names
that the caller lists is something built, by the caller's own code.

Memory and time grow with the length of the file alone: memo places are kept in a dict, nothing is
allocated by a stated length, and no opcode multiplies what is on the stack.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from embedcache.errors import PickleRefusedError


class Readable(Protocol):
    """As much of a binary file as parsing opcodes takes."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, or what is left."""

    def readline(self) -> bytes:
        """Bytes up to the end of a line."""

    def tell(self) -> int:
        """Where it stands."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function as a pickle names it; never looked up.

    Attributes:
        module: such as `torch._utils`.
        name: inside the module.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Foreign:
    """What a call would have made, had it been made: nothing but who would have made it.

    Attributes:
        maker: the class or function.
    """

    maker: Name


#: Builds a plain value from what a pickle passes to a class or function of one name.
Makers = Mapping[Name, Callable[..., Any]]
#: Resolves what a pickle calls persistent ids: things that lie outside it.
Outside = Callable[[Any], Any]


def read_pickle(file: Readable, makers: Makers, outside: Outside) -> Any:
    """Read one pickle from where the file stands, and leave the file behind it.

    Args:
        file: must not set memory aside for bytes that it does not have.
        makers: what is built, by name; they check what they are given.
        outside: gives the value of a persistent id.

    Raises:
        PickleRefusedError: if it is no pickle, is cut short, or asks for what no checkpoint does.
    """
    machine = _Machine(makers, outside)
    try:
        opcodes = pickletools.genops(file)  # type: ignore[arg-type]  # `Readable` is all it needs
        for opcode, argument, _ in opcodes:
            machine.step(opcode.name, argument)
        return machine.pop()
    except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        # A sound pickle never pops an empty stack or sets a key of a tuple.
        raise PickleRefusedError("it is damaged") from error


class _Machine:
    """The stack, the memo, and one method for each way in which opcodes change them."""

    def __init__(self, makers: Makers, outside: Outside) -> None:
        self._makers = makers
        self._outside = outside
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _VALUES:
            self._stack.append(argument)
        elif opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode]())
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        else:
            raise PickleRefusedError(f"it holds the opcode {opcode}, which no checkpoint needs")

    def pop(self) -> Any:
        return self._stack.pop()

    def mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def drop(self, _: Any) -> None:
        # Popping at a mark takes the mark away, as Python's unpickler does.
        if self._stack:
            self._stack.pop()
        else:
            self.since_mark()

    def since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def drop_to_mark(self, _: Any) -> None:
        self.since_mark()

    def twice(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def append(self, _: Any) -> None:
        self._extend([self.pop()])

    def appends(self, _: Any) -> None:
        self._extend(self.since_mark())

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._update([key, value])

    def set_items(self, _: Any) -> None:
        self._update(self.since_mark())

    def gather(self, kind: Callable[[list[Any]], Any]) -> None:
        items = self.since_mark()
        self._stack.append(kind(items))

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self._stack.append(tuple(reversed(items)))

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(Name(module, name))

    def name_on_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise PickleRefusedError("it is damaged")
        self._stack.append(Name(module, name))

    def call(self, _: Any) -> None:
        arguments, maker = self.pop(), self.pop()
        self._stack.append(self._made(maker, arguments))

    def call_with_options(self, _: Any) -> None:
        _, arguments, maker = self.pop(), self.pop(), self.pop()
        self._stack.append(self._made(maker, arguments))

    def call_named(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        arguments = tuple(self.since_mark())
        self._stack.append(self._made(Name(module, name), arguments))

    def call_first(self, _: Any) -> None:
        maker, *arguments = self.since_mark()
        self._stack.append(self._made(maker, tuple(arguments)))

    def restore(self, _: Any) -> None:
        # What would become attributes; plain containers and tensors need none.
        self.pop()

    def store(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def store_next(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def recall(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def fetch_outside(self, _: Any) -> None:
        self._stack.append(self._outside(self.pop()))

    def _made(self, maker: Any, arguments: Any) -> Any:
        if not isinstance(maker, Name):
            return Foreign(maker.maker if isinstance(maker, Foreign) else Name("?", "?"))
        known = self._makers.get(maker)
        return Foreign(maker) if known is None else known(*arguments)

    def _extend(self, items: list[Any]) -> None:
        onto = self._stack[-1]
        if isinstance(onto, list):
            onto.extend(items)
        elif isinstance(onto, set):
            onto.update(map(_key, items))
        elif not isinstance(onto, Foreign):
            raise PickleRefusedError("it is damaged")

    def _update(self, pairs: list[Any]) -> None:
        onto = self._stack[-1]
        if isinstance(onto, dict):
            onto.update(plain_dict(zip(pairs[::2], pairs[1::2], strict=True)))
        elif not isinstance(onto, Foreign):
            raise PickleRefusedError("it is damaged")


def plain_dict(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    """A dict of pairs, whose keys are simple values; other keys lose what they held."""
    return {_key(key): value for key, value in pairs}


def _key(value: Any) -> Any:
    # Hashing goes down a tuple by calling itself: one nested a million deep ends the process.
    simple = value is None or isinstance(value, str | bytes | int | float | Name | Foreign)
    return value if simple else Foreign(Name("builtins", type(value).__name__))


def _dict_of(items: list[Any]) -> dict[Any, Any]:
    return plain_dict(zip(items[::2], items[1::2], strict=True))


def _set_of(items: list[Any]) -> frozenset[Any]:
    return frozenset(map(_key, items))


#: What pickletools says that an opcode leaves on the stack, where that is a plain value.
_PLAIN = tuple(
    [kind]
    for kind in vars(pickletools).values()
    if isinstance(kind, pickletools.StackObject) and kind is not pickletools.anyobject
)
#: Opcodes whose argument is the value: numbers, text and bytes.
_VALUES = frozenset(
    opcode.name
    for opcode in pickletools.opcodes
    if opcode.arg and not opcode.stack_before and opcode.stack_after[:1] in _PLAIN
)
#: Opcodes that push a value without an argument.
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
}
#: All others that a checkpoint can hold. Not among them: EXT1 to EXT4 (a registry of the reading
#: process), PERSID (text), and the two that take buffers from outside.
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda _machine, _: None,
    "FRAME": lambda _machine, _: None,
    "STOP": lambda _machine, _: None,
    "MARK": _Machine.mark,
    "POP": _Machine.drop,
    "POP_MARK": _Machine.drop_to_mark,
    "DUP": _Machine.twice,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "LIST": lambda machine, _: machine.gather(list),
    "TUPLE": lambda machine, _: machine.gather(tuple),
    "DICT": lambda machine, _: machine.gather(_dict_of),
    "FROZENSET": lambda machine, _: machine.gather(_set_of),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_on_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_options,
    "INST": _Machine.call_named,
    "OBJ": _Machine.call_first,
    "BUILD": _Machine.restore,
    "PUT": _Machine.store,
    "BINPUT": _Machine.store,
    "LONG_BINPUT": _Machine.store,
    "MEMOIZE": _Machine.store_next,
    "GET": _Machine.recall,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "BINPERSID": _Machine.fetch_outside,
}
