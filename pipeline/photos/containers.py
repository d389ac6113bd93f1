"""The blocks that JPEG, PNG and WebP files are made of: metadata lie in some of them, beside the packed pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

PNG_MARK = b"\x89PNG\r\n\x1a\n"
START_OF_SCAN, END_OF_PICTURE = 0xDA, 0xD9
_ALONE = (0x00, 0x01, *range(0xD0, 0xD8), 0xFF)  # bytes behind 0xFF that begin no segment in front of a scan


class Block(NamedTuple):
    """One segment of a JPEG (`kind` is its marker), or chunk of a PNG or WebP."""

    kind: bytes
    data: bytes


def jpeg_blocks(file: bytes) -> tuple[list[Block], int]:
    """The segments of a JPEG before its first scan, and where that begins.

    Raises:
        ValueError: it is none, or cut off.
    """
    blocks: list[Block] = []
    at = 2
    while file[:2] == b"\xff\xd8":
        at = file.find(b"\xff", at)  # decoders pass over what lies between segments
        if at < 0 or at + 4 > len(file) or file[at + 1] == END_OF_PICTURE:
            break
        marker = file[at + 1]
        if marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        size = int.from_bytes(file[at + 2 : at + 4], "big")
        if marker == START_OF_SCAN:
            return blocks, at
        blocks.append(Block(bytes([marker]), file[at + 4 : at + 2 + size]))
        at += 2 + size
    raise ValueError("no JPEG, or one without a picture")


def jpeg_with(file: bytes, blocks: Iterable[Block]) -> bytes:
    """A JPEG with more segments at its beginning."""
    return b"".join([file[:2], *(jpeg_block(block) for block in blocks), file[2:]])


def jpeg_block(block: Block) -> bytes:
    """A segment as it lies in a file.

    Raises:
        ValueError: it is larger than segments can be.
    """
    if len(block.data) > 65533:
        raise ValueError("too large for a segment of JPEG")
    return b"\xff" + block.kind + struct.pack(">H", len(block.data) + 2) + block.data


def png_blocks(file: bytes) -> Iterator[Block]:
    """The chunks of a PNG but for its pixels', as far as they are whole."""
    at = len(PNG_MARK) if file.startswith(PNG_MARK) else len(file)
    while at + 12 <= len(file):
        size, kind = struct.unpack_from(">I4s", file, at)
        if kind != b"IDAT":
            yield Block(kind, file[at + 8 : at + 8 + size])
        at += 12 + size


def png_with(file: bytes, blocks: Iterable[Block], without: Sequence[bytes] = ()) -> bytes:
    """A PNG with more chunks behind its first one, and without some of those that stood before its pixels."""
    head, at = [file[:33]], 33
    head += [png_block(block) for block in blocks]
    while file[at + 4 : at + 8] != b"IDAT":
        (size,) = struct.unpack_from(">I", file, at)
        if file[at + 4 : at + 8] not in without:
            head.append(file[at : at + 12 + size])
        at += 12 + size
    return b"".join([*head, memoryview(file)[at:]])


def png_block(block: Block) -> bytes:
    """A chunk as it lies in a file."""
    body = block.kind + block.data
    return struct.pack(">I", len(block.data)) + body + struct.pack(">I", zlib.crc32(body))


def webp_blocks(file: bytes) -> Iterator[Block]:
    """The chunks of a WebP file, as far as they are whole."""
    at = 12 if file[:4] == b"RIFF" and file[8:12] == b"WEBP" else len(file)
    while at + 8 <= len(file):
        kind, size = struct.unpack_from("<4sI", file, at)
        yield Block(kind, file[at + 8 : at + 8 + size])
        at += 8 + size + size % 2


def webp_with(
    file: bytes, *, height: int, width: int, profile: bytes | None, exif: bytes | None, xmp: bytes | None
) -> bytes:
    """A WebP file of one picture with metadata: in the extended layout, which has flags for them."""
    inner = [block for block in webp_blocks(file) if block.kind in (b"ALPH", b"VP8 ", b"VP8L")]
    first = next(block for block in inner if block.kind != b"ALPH")
    alpha = len(inner) > 1 or (first.kind == b"VP8L" and bool(first.data[4] & 0x10))
    flags = 0x20 * bool(profile) | 0x10 * alpha | 0x08 * bool(exif) | 0x04 * bool(xmp)
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    blocks = [Block(b"VP8X", struct.pack("<I", flags) + sides)]
    blocks += [Block(b"ICCP", profile)] if profile else []
    blocks += inner
    blocks += [Block(b"EXIF", exif)] if exif else []
    blocks += [Block(b"XMP ", xmp)] if xmp else []
    body = b"WEBP" + b"".join(
        block.kind + struct.pack("<I", len(block.data)) + block.data + b"\0" * (len(block.data) % 2) for block in blocks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body
