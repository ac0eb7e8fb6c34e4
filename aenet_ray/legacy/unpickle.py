"""Pickles of the one record that aenet-python writes into its files, read without running anything.

A pickle is a program. Its instructions are carried out here, one by one, on plain values, and only those that the
record needs. No name in it is imported: the few that are known stand for code of this module, never for functions of
NumPy or Python, so nothing known can be called in a way that was not meant. What comes out is never larger than what
went in.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aenet_ray.errors import StructureError, UnsafeFileError

RECORD_CLASS = "aenet.torch_training.config.Structure"

_ARRAY_TYPE = re.compile(r"(f[248]|[iu][1248]|b1|[US][1-9][0-9]{0,6})")


def read_state(data: bytes, where: str) -> dict[str, Any]:
    """The fields of the record in a pickle, as plain values.

    Args:
        data: The pickle.
        where: File and entry, for messages.

    Raises:
        UnsafeFileError: It asks for a class, function or instruction that such a record has no need of.
        StructureError: It is damaged, or holds another kind of value.
    """
    try:
        value = _Machine(data).run()
    except _Refused as error:
        raise UnsafeFileError(
            f"{where}: refused: its pickle {error}, and a structure has no need of that. Nothing of it was run; do not "
            "load this file with aenet-python or pickle."
        ) from None
    except (_Damaged, IndexError, KeyError, struct.error, UnicodeError, ValueError, OverflowError) as error:
        raise StructureError(f"{where}: damaged: {error or type(error).__name__}.") from None
    if not isinstance(value, _Instance) or value.state is None:
        raise StructureError(f"{where}: holds {what_is(value)}, expected a record of {RECORD_CLASS}.")
    return value.state


def what_is(value: object) -> str:
    """What a value is, in words that stay short whatever it holds."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with shape {value.shape}"
    if value is None:
        return "missing"
    names = {_Name: "a class", _Instance: "a record", _Type: "a type", _Array: "an unfinished array"}
    return names.get(type(value), f"a {type(value).__name__}")


class _Refused(Exception):
    """The pickle wants something that is not for it."""


class _Damaged(Exception):
    """The pickle is none, or cut."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A class or function that was asked for and is known."""

    text: str


@dataclass(slots=True)
class _Instance:
    """The record."""

    state: dict[str, Any] | None = None


@dataclass(slots=True)
class _Type:
    """An element type, such as '<f8'."""

    code: str
    order: str = "<"

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


@dataclass(slots=True)
class _Array:
    """An array that is made in two steps, as old pickles do."""

    value: np.ndarray | None = None


def make_type(code: object, *_: object) -> _Type:
    """What stands for ``numpy.dtype``: numbers, booleans and text only, never objects or records."""
    if not isinstance(code, str) or not _ARRAY_TYPE.fullmatch(code):
        raise _Refused(f"makes arrays of {code!r:.40}")
    return _Type(code)


def set_type(kind: _Type, state: object) -> None:
    """The byte order; the rest of the state follows from the code and is not believed."""
    if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
        raise _Refused("gives an element type a state it cannot have")
    if any(part is not None for part in state[2:5]):
        raise _Refused("makes arrays of records")
    kind.order = state[1] if state[1] != "|" else "<"


def make_array(data: object, kind: object, shape: object, order: object = "C") -> np.ndarray:
    """A read-only view of ``data``; exactly as many bytes as the shape needs."""
    if not isinstance(data, bytes) or not isinstance(kind, _Type) or not isinstance(shape, tuple):
        raise _Refused("makes an array of something else than bytes, a type and a shape")
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 4:
        raise _Damaged(f"an array of shape {shape!r:.60}")
    dtype = kind.dtype
    if math.prod(shape) * dtype.itemsize != len(data):
        raise _Damaged(f"an array of shape {shape!r:.60} and type {dtype} with {len(data)} bytes")
    if order not in ("C", "F"):
        raise _Damaged(f"an array in the order {order!r:.40}")
    values = np.frombuffer(data, dtype) if data else np.empty(0, dtype)
    if dtype.kind == "U" and data and np.frombuffer(data, kind.order + "u4").max() > 0x10FFFF:
        raise _Damaged("text of characters that do not exist")
    return values.reshape(shape, order=order)


def make_scalar(kind: object, data: object) -> Any:
    """A number or text as Python's own."""
    if isinstance(kind, _Type) and isinstance(data, bytes) and kind.code[0] == "U":  # species: most of a record
        if data and len(data) != 4 * int(kind.code[1:]):
            raise _Damaged(f"a text of type {kind.code} with {len(data)} bytes")
        return data.decode("utf-32-be" if kind.order == ">" else "utf-32-le").rstrip("\0")
    value = make_array(data, kind, ()).item()
    return value.decode() if isinstance(value, bytes) else value


def _set_array(array: _Array, state: object) -> np.ndarray:
    if not isinstance(state, tuple) or len(state) != 5:
        raise _Refused("gives an array a state it cannot have")
    _, shape, kind, fortran, data = state
    array.value = make_array(data, kind, shape, "F" if fortran is True else "C")
    return array.value


def _empty_array(cls: object, shape: object, code: object) -> _Array:
    if cls != _Name("numpy.ndarray") or shape != (0,) or code != b"b":
        raise _Refused("makes an array of another class")
    return _Array()


_NUMPY_HOMES = ("numpy.core.", "numpy._core.")
_CALLS: dict[str, Callable[..., Any]] = {"numpy.dtype": make_type}
for _home in _NUMPY_HOMES:
    _CALLS[f"{_home}multiarray._reconstruct"] = _empty_array
    _CALLS[f"{_home}multiarray.scalar"] = make_scalar
    _CALLS[f"{_home}numeric._frombuffer"] = make_array
_KNOWN = {*_CALLS, RECORD_CLASS, "numpy.ndarray", "_codecs.encode"}


@dataclass(slots=True)
class _Machine:
    """A pickle's stack, memo and position."""

    data: bytes
    at: int = 0
    stack: list[Any] = field(default_factory=list)
    marks: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    encoded: int = 0

    def run(self) -> Any:
        data, size = self.data, len(self.data)
        while self.at < size:
            code = data[self.at]
            self.at += 1
            if code == _MEMOIZE:  # every third instruction
                self.memo[len(self.memo)] = self.stack[-1]
                continue
            if code == _STOP:
                (value,) = self.stack
                return self.finished(value)
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise _Refused(f"holds the instruction {bytes([code])!r}")
            operation(self)
        raise _Damaged("it ends early")

    def finished(self, value: Any) -> Any:
        return value.value if type(value) is _Array and value.value is not None else value

    # reading

    def take(self, n: int) -> bytes:
        chunk = self.data[self.at : self.at + n]
        if len(chunk) != n:
            raise _Damaged("it ends early")
        self.at += n
        return chunk

    def number(self, form: struct.Struct) -> Any:
        return form.unpack(self.take(form.size))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + 256)
        if end < 0:
            raise _Damaged("a name without an end")
        text = self.data[self.at : end].decode()
        self.at = end + 1
        return text

    # stack

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return [self.finished(item) for item in items]

    def pop(self) -> Any:
        return self.finished(self.stack.pop())

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def fetch(self, index: int) -> None:
        self.push(self.memo[index])

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    # instructions that make something

    def name(self, module: object, name: object) -> None:
        text = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "?"
        if text not in _KNOWN:
            raise _Refused(f"asks for {text[:120]!r}")
        self.push(_Name(text))

    def stack_global(self) -> None:
        name = self.pop()
        self.name(self.pop(), name)

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise _Refused(f"calls {what_is(function)}")
        if function.text == "_codecs.encode":
            self.push(self.encode(*arguments))
        elif function.text in _CALLS:
            try:
                self.push(_CALLS[function.text](*arguments))
            except TypeError:
                raise _Refused(f"calls {function.text} with {len(arguments)} arguments") from None
        else:
            raise _Refused(f"calls {function.text!r}")

    def encode(self, text: object = None, encoding: object = None, *more: object) -> bytes:
        """Bytes, as protocols before 3 write them."""
        if not isinstance(text, str) or encoding != "latin1" or more:
            raise _Refused(f"calls _codecs.encode for {encoding!r:.40}")
        self.encoded += len(text)
        if self.encoded > len(self.data):  # the same text again and again
            raise _Refused("makes more data than it holds")
        return text.encode("latin1")

    def new(self) -> None:
        arguments, cls = self.pop(), self.pop()
        if cls != _Name(RECORD_CLASS) or arguments != ():
            raise _Refused(f"makes an instance of {cls.text if isinstance(cls, _Name) else what_is(cls)}")
        self.push(_Instance())

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, _Type):
            set_type(target, state)
        elif isinstance(target, _Array):
            _set_array(target, state)
        elif isinstance(target, _Instance) and type(state) is dict and target.state is None:
            target.state = state
        else:
            raise _Refused(f"sets the state of {what_is(target)}")

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise _Refused(f"appends to {what_is(self.stack[-1])}")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target, keys = self.stack[-1], items[::2]
        if type(target) is not dict or len(items) % 2 or not all(type(k) is str for k in keys):
            raise _Refused("fills a dictionary with keys that are no names")
        target.update(zip(keys, items[1::2], strict=True))

    def tuple_of(self, n: int) -> None:
        items = [self.finished(item) for item in self.stack[-n:]]
        if len(items) != n:
            raise _Damaged("too few values")
        self.stack[-n:] = [tuple(items)]

    def protocol(self) -> None:
        if self.take(1)[0] > 5:
            raise _Damaged("a pickle of an unknown protocol")


_U1, _U2, _I4, _U4, _U8, _F8 = (struct.Struct(f) for f in ("<B", "<H", "<i", "<I", "<Q", ">d"))
_STOP, _MEMOIZE = ord("."), 0x94
_OPERATIONS: dict[int, Callable[[_Machine], object]] = {
    ord(code): operation
    for code, operation in {
        "\x80": _Machine.protocol,
        "\x95": lambda m: m.take(8),  # the length of a frame: what follows is read all the same
        "(": _Machine.mark,
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "K": lambda m: m.push(m.number(_U1)),
        "M": lambda m: m.push(m.number(_U2)),
        "J": lambda m: m.push(m.number(_I4)),
        "\x8a": lambda m: m.push(int.from_bytes(m.take(m.number(_U1)), "little", signed=True)),
        "G": lambda m: m.push(m.number(_F8)),
        "\x8c": lambda m: m.push(m.take(m.number(_U1)).decode("utf-8")),
        "X": lambda m: m.push(m.take(m.number(_U4)).decode("utf-8")),
        "\x8d": lambda m: m.push(m.take(m.number(_U8)).decode("utf-8")),
        "C": lambda m: m.push(m.take(m.number(_U1))),
        "B": lambda m: m.push(m.take(m.number(_U4))),
        "\x8e": lambda m: m.push(m.take(m.number(_U8))),
        "\x96": lambda m: m.push(m.take(m.number(_U8))),  # bytearray: what arrays of protocol 5 are made of
        ")": lambda m: m.push(()),
        "\x85": lambda m: m.tuple_of(1),
        "\x86": lambda m: m.tuple_of(2),
        "\x87": lambda m: m.tuple_of(3),
        "t": lambda m: m.push(tuple(m.pop_mark())),
        "]": lambda m: m.push([]),
        "a": lambda m: m.append([m.pop()]),
        "e": lambda m: m.append(m.pop_mark()),
        "}": lambda m: m.push({}),
        "s": lambda m: m.set_items([m.stack.pop(-2), m.pop()]),
        "u": lambda m: m.set_items(m.pop_mark()),
        "q": lambda m: m.memo.__setitem__(m.number(_U1), m.stack[-1]),
        "r": lambda m: m.memo.__setitem__(m.number(_U4), m.stack[-1]),
        "h": lambda m: m.fetch(m.number(_U1)),
        "j": lambda m: m.fetch(m.number(_U4)),
        "c": lambda m: m.name(m.line(), m.line()),
        "\x93": _Machine.stack_global,
        "R": _Machine.call,
        "\x81": _Machine.new,
        "b": _Machine.build,
    }.items()
}
