"""The little of Thrift's compact protocol that a Parquet footer and page header take.

Source: thrift/doc/specs/thrift-compact-protocol.md of Apache Thrift.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

_TRUE, _FALSE, _I32, _I64, _BINARY, _LIST, _STRUCT = 1, 2, 5, 6, 8, 9, 12


class Coded(NamedTuple):
    """A value as bytes, and its type in the protocol."""

    kind: int
    content: bytes


def varint(value: int) -> bytes:
    """Unsigned LEB128."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


@lru_cache(maxsize=1024)  # the same few in every page and every row group
def i32(value: int) -> Coded:
    """A 32-bit integer, or an enum."""
    return Coded(_I32, varint((value << 1) ^ (value >> 31)))


def i64(value: int) -> Coded:
    """A 64-bit integer."""
    return Coded(_I64, varint((value << 1) ^ (value >> 63)))


def binary(value: bytes) -> Coded:
    """Bytes, or text."""
    return Coded(_BINARY, varint(len(value)) + value)


def boolean(value: bool) -> Coded:
    """A boolean field; its type is its value."""
    return Coded(_TRUE if value else _FALSE, b"")


def listed(values: Sequence[Coded]) -> Coded:
    """A list of values of one type, at least one."""
    kind = values[0].kind
    head = bytes((len(values) << 4 | kind,)) if len(values) < 15 else bytes((0xF0 | kind,)) + varint(len(values))
    return Coded(_LIST, head + b"".join([value.content for value in values]))


def struct(**fields: Coded | None) -> Coded:
    """A struct; fields are named `f` and their number, ascending, and left out where None."""
    parts, last = [], 0
    for name, value in fields.items():
        if value is None:
            continue
        number = int(name[1:])
        step = number - last
        head = bytes((step << 4 | value.kind,)) if step < 16 else bytes((value.kind,)) + varint(number << 1)
        parts += [head, value.content]
        last = number
    return Coded(_STRUCT, b"".join(parts) + b"\0")


Integers = dict[int, "int | Integers"]


def read_integers(content: bytes, at: int, depth: int = 1) -> tuple[Integers, int]:
    """The integers of the struct that begins there, by number of their field, and where it ends.

    Structs in it are read so too, `depth` of them in each other.
    Raises ValueError for any other type, IndexError where the bytes end too early.
    """
    found: Integers = {}
    number = 0
    while content[at]:
        step, kind = content[at] >> 4, content[at] & 15
        at += 1
        if step:
            number += step
        else:
            number, at = _zigzag(content, at)
        if kind in (_I32, _I64):
            found[number], at = _zigzag(content, at)
        elif kind == _STRUCT and depth:
            found[number], at = read_integers(content, at, depth - 1)
        else:
            raise ValueError(f"field {number} is of type {kind}")
    return found, at + 1


def _zigzag(content: bytes, at: int) -> tuple[int, int]:
    coded = shift = 0
    while content[at] > 127:
        coded |= (content[at] & 127) << shift
        shift += 7
        at += 1
    coded |= content[at] << shift
    return (coded >> 1) ^ -(coded & 1), at + 1
