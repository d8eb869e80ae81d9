"""How the file of a flight recorder is laid out, for who writes it and who reads it.

A header; then two places for the state of all stacks, written in turns, so that one of them is
whole whenever the process dies; then slots for events, used round and round. Everything that is
written has a number and a checksum: what was being written when the process died is told apart from
what is whole.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

MAGIC = b"NLFR"
VERSION = 1

_HEADER = struct.Struct("<4sHIdIII")
"""Magic, version, process, time of its start, bytes of a state, slots, bytes of a slot."""
_ENTRY = struct.Struct("<QIId")
"""Number from 1, bytes, checksum, time of writing."""
HEADER_SIZE = 64
OVERHEAD = _ENTRY.size
STATES = 2


class Header(NamedTuple):
    """What a file is, and how it is divided.

    Attributes:
        pid: Process that writes it.
        started: When that began, seconds since 1970.
        state_size: Bytes of a place for states.
        slots: How many events it holds.
        slot_size: Bytes of each.
    """

    pid: int
    started: float
    state_size: int
    slots: int
    slot_size: int

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return HEADER_SIZE + STATES * self.state_size + self.slots * self.slot_size

    def state_at(self, number: int) -> int:
        """Return where the state of a number is written."""
        return HEADER_SIZE + number % STATES * self.state_size

    def slot_at(self, number: int) -> int:
        """Return where the event of a number is written."""
        return HEADER_SIZE + STATES * self.state_size + number % self.slots * self.slot_size

    def to_bytes(self) -> bytes:
        """Return the head of a file."""
        return _HEADER.pack(MAGIC, VERSION, *self).ljust(HEADER_SIZE, b"\0")


class Entry(NamedTuple):
    """Something that was written whole."""

    number: int
    written: float
    data: bytes


def header_of(data: bytes) -> Header:
    """Return the header of a file.

    Raises:
        ValueError: It is no such file, or of another version, or not whole.
    """
    if len(data) < HEADER_SIZE or not data.startswith(MAGIC):
        raise ValueError("is not the file of a flight recorder")
    _, version, *values = _HEADER.unpack_from(data)
    if version != VERSION:
        msg = f"has version {version} of its format, and this program reads version {VERSION}"
        raise ValueError(msg)
    header = Header(*values)
    if min(header.state_size, header.slot_size) <= OVERHEAD or header.size != len(data):
        raise ValueError("is not whole: copy it again")
    return header


def packed(number: int, written: float, data: bytes) -> bytes:
    """Return an entry as it is written."""
    check = zlib.crc32(data, number & 0xFFFFFFFF)
    return _ENTRY.pack(number, len(data), check, written) + data


def entry_at(data: bytes, at: int, size: int) -> Entry | None:
    """Return the entry at a place of so many bytes, or None when it is not whole.

    Raises:
        LookupError: Nothing was ever written there.
    """
    number, length, check, written = _ENTRY.unpack_from(data, at)
    if number == length == check == 0:
        raise LookupError
    if length > size - OVERHEAD:
        return None
    found = data[at + OVERHEAD : at + OVERHEAD + length]
    if zlib.crc32(found, number & 0xFFFFFFFF) != check:
        return None
    return Entry(number, written, found)
