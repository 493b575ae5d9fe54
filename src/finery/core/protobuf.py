"""The wire format of protocol buffers, as much as files of other trackers need; who reads knows what the numbers mean.

In the standard library's terms, so that an engine's environment needs no package for it.
"""

import struct
from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5
_FIXED_BYTES: Final = {FIXED64: 8, FIXED32: 4}


def fields(message: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Number, wire type, varint and content of each field; a varint has no content, the other types no varint.

    Raises ValueError or IndexError when the message is cut off.
    """
    at = 0
    end = len(message)
    while at < end:
        key, at = read_varint(message, at)
        wire_type = key & 7
        if wire_type == VARINT:
            varint, at = read_varint(message, at)
            yield key >> 3, wire_type, varint, b""
            continue
        if wire_type == BYTES:
            length, at = read_varint(message, at)
        elif wire_type in _FIXED_BYTES:
            length = _FIXED_BYTES[wire_type]
        else:
            raise ValueError(f"wire type {wire_type} is not in use")
        if at + length > end:
            raise ValueError("a field is longer than its message")
        yield key >> 3, wire_type, 0, message[at : at + length]
        at += length


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a byte, and where the next one begins."""
    number = message[at]
    if number < 0x80:
        return number, at + 1
    number &= 0x7F
    for shift in range(7, 70, 7):
        at += 1
        byte = message[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at + 1
    raise ValueError("a number is longer than ten bytes")


def varint(number: int) -> bytes:
    """A whole number; a negative one as the 64 bits of its two's complement."""
    number &= 0xFFFF_FFFF_FFFF_FFFF
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def varint_field(field: int, value: int) -> bytes:
    """A field that holds a whole number."""
    return varint(field << 3 | VARINT) + varint(value)


def double_field(field: int, value: float) -> bytes:
    """A field that holds 64 bits of floating point."""
    return varint(field << 3 | FIXED64) + struct.pack("<d", value)


def float_field(field: int, value: float) -> bytes:
    """A field that holds 32 bits of floating point; what is too large for them is infinite."""
    try:
        content = struct.pack("<f", value)
    except OverflowError:
        content = struct.pack("<f", float("inf") if value > 0 else float("-inf"))
    return varint(field << 3 | FIXED32) + content


def bytes_field(field: int, content: bytes) -> bytes:
    """A field that holds text, bytes or another message."""
    return varint(field << 3 | BYTES) + varint(len(content)) + content
