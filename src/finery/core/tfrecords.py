"""Frames of a TFRecord file, which event files of TensorBoard are.

frame     uint64 length | masked crc32c of the length | data | masked crc32c of the data   (little-endian)
"""

import struct
from functools import lru_cache
from typing import Final

HEADER: Final = struct.Struct("<QI")
"""Length and its checksum."""
CRC: Final = struct.Struct("<I")


def frame(record: bytes) -> bytes:
    """A record as the file holds it."""
    length = len(record)
    return HEADER.pack(length, length_crc(struct.pack("<Q", length))) + record + CRC.pack(masked_crc32c(record))


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC32C: Final = _crc32c_table()


def masked_crc32c(content: bytes) -> int:
    """The checksum of TFRecord: CRC-32C (RFC 3720, appendix B.4), rotated right by 15 bits, plus a constant."""
    table = _CRC32C
    crc = 0xFFFF_FFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFF_FFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFF_FFFF


length_crc = lru_cache(maxsize=1024)(masked_crc32c)
"""Scalars of one metric have records of one length."""
