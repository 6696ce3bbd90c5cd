"""The blocks (strips or tiles) of a TIFF page: where they are, which a window touches, and a file of one page alone.

A decoder never sees the user's file. It gets a minimal TIFF, written here from the facts that were checked: no loops,
no absurd counts, no orientation or inversion that it could apply, no other page. So all backends see the same thing.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.tiff import TiffPage, block_tags

# How far each compression can expand at most, in bytes per byte. What claims more is a bomb or nonsense. Those absent
# (zstd, lzma, jpeg 2000, webp, lerc, jpegxl) can code a constant image in almost nothing: there LIMIT_UNKNOWN holds.
EXPANSION = {1: 1, 5: 2731, 7: 2048, 8: 1032, 32773: 64, 32946: 1032}
LIMIT_UNKNOWN = 1 << 28  # bytes of one block
CCITT = (2, 3, 4)
WORTH_ARRAYS = 16  # blocks from which on arrays are faster than a loop


def block_numbers(page: TiffPage, window: tuple[int, int, int, int], planes: Sequence[int]) -> list[int]:
    """The numbers of the blocks that a window (top, left, height, width) touches in the given planes."""
    top, left, height, width = window
    rows, columns = page.grid
    first_row, last_row = top // page.tile[0], (top + height - 1) // page.tile[0]
    first_column, last_column = left // page.tile[1], (left + width - 1) // page.tile[1]
    return [
        (plane * rows + row) * columns + column
        for plane in planes
        for row in range(first_row, last_row + 1)
        for column in range(first_column, last_column + 1)
    ]


def _whole_ranges(
    stored: TiffPage, numbers: np.ndarray, offsets: np.ndarray, sizes: np.ndarray, low: int, end: int
) -> list[tuple[int, int]] | None:
    """The ranges of blocks that are all there and uncompressed, at once; None where each wants to be looked at."""
    rows, columns = stored.grid
    each = np.full(len(numbers), stored.tile[0])
    if not stored.tiled:
        each = np.minimum(each, stored.height - numbers // columns % rows * stored.tile[0])
    need = each * stored.row_bytes(stored.tile[1])
    first = offsets[numbers - low].astype(np.int64) + stored.shift
    if (first <= stored.shift).any() or (first + need > end).any() or (sizes[numbers - low] < need).any():
        return None
    return list(zip(first.tolist(), need.tolist(), strict=True))


def block_ranges(page: TiffPage, numbers: Sequence[int]) -> list[tuple[int, int]]:
    """(offset, size in bytes) of blocks in the file, checked against the file's end; size 0 is a block left out."""
    offsets_tag, sizes_tag = block_tags(page)
    ifd, path, end = page.ifd, page.ifd.file.source.path, page.ifd.file.source.size
    low, high = min(numbers), max(numbers) + 1
    offsets = ifd.array(offsets_tag, low, high)
    sizes = ifd.array(sizes_tag, low, high) if sizes_tag in ifd.tags else np.zeros(0, np.uint32)
    if len(offsets) < high - low:
        raise ImageReadError(
            path, f"it lists {low + len(offsets)} of its blocks", "the file is damaged: copy or export it again"
        )
    rows, columns = page.grid
    stored = page.as_stored()
    if page.compression == 1 and len(numbers) >= WORTH_ARRAYS and len(sizes) == len(offsets):
        plain = _whole_ranges(stored, np.asarray(numbers), offsets, sizes, low, end)
        if plain is not None:
            return plain
    ranges = []
    for number in numbers:
        offset = int(offsets[number - low]) + page.shift
        size = int(sizes[number - low]) if number - low < len(sizes) else 0
        need = stored.row_bytes(stored.tile[1]) * stored.block_rows(number // columns % rows)
        if offset == page.shift and size == 0:
            ranges.append((0, 0))
            continue
        if size == 0:  # some writers leave the size out
            size = need if page.compression == 1 else end - offset if rows * columns * page.planes == 1 else 0
        if page.compression == 1:
            # Some writers state too few bytes; but what belongs to another block does not belong to this one.
            size = (
                need if size >= need or (offset + need <= end and not _begins_in(offsets, offset, need, page)) else size
            )
            if size < need:
                raise ImageReadError(
                    path, f"its block {number} holds {size} of {need} bytes", "it is truncated: copy or export it again"
                )
        if offset + size > end:
            raise ImageReadError(
                path,
                f"its block {number} ends at byte {offset + size}, but the file after {end}",
                "it is truncated: copy or export it again",
            )
        limit = EXPANSION.get(page.compression, 0) * (size + 16) if page.compression in EXPANSION else LIMIT_UNKNOWN
        if size == 0 or offset == page.shift:
            raise ImageReadError(
                path,
                f"its block {number} has no {'size' if offset else 'place'}",
                "the file is damaged: export it again",
            )
        if need > limit and page.compression not in CCITT:
            raise ImageReadError(
                path, f"{size} bytes in block {number} cannot hold {need} bytes of pixels", "it is damaged or hostile"
            )
        ranges.append((offset, size))
    return ranges


def _begins_in(offsets: np.ndarray, offset: int, size: int, page: TiffPage) -> bool:
    """Whether another block begins among the bytes after an offset."""
    others = offsets.astype(np.int64) + page.shift
    return bool(((others > offset) & (others < offset + size)).any())


def read_blocks(page: TiffPage, numbers: Sequence[int]) -> list[bytes]:
    """The stored bytes of blocks; empty for a block that the file leaves out."""
    source = page.ifd.file.source
    return [source.pread(offset, size) if size else b"" for offset, size in block_ranges(page, numbers)]


def block_page(page: TiffPage, rows: int) -> TiffPage:
    """One block as a page of its own, `rows` high: decoding it does not depend on how large the image is."""
    samples, photometric = (1, 1) if page.planar else (page.samples, page.photometric)
    return replace(
        page,
        height=rows,
        width=page.tile[1],
        tile=(rows, page.tile[1]),
        samples=samples,
        photometric=photometric,
        planar=False,
        extra=() if page.planar else page.extra,
    )


def minimal_tiff(
    page: TiffPage,
    blocks: Sequence[bytes],
    *,
    photometric: int | None = None,
    extra: Sequence[int] | None = None,
) -> bytes:
    """A TIFF (BigTIFF if it must be) of this page only, with the blocks given.

    Args:
        page: the facts.
        blocks: stored bytes of every block.
        photometric: says something else about the same samples, so that a decoder leaves them alone.
        extra: as `photometric`, for the meaning of extra samples.
    """
    order = page.ifd.file.order
    extra = page.extra if extra is None else extra
    each = page.samples
    tags: list[tuple[int, int, Sequence[int] | bytes]] = [
        (256, 4, [page.width]),
        (257, 4, [page.height]),
        (258, 3, [page.bits] * each),
        (259, 3, [page.compression]),
        (262, 3, [page.photometric if photometric is None else photometric]),
        (277, 3, [page.samples]),
        (284, 3, [2 if page.planar else 1]),
        (339, 3, [1 if page.sample_format == 4 else page.sample_format] * each),
    ]
    if extra:
        tags.append((338, 3, list(extra)))
    if page.fill_order != 1:
        tags.append((266, 3, [page.fill_order]))
    if page.predictor != 1:
        tags.append((317, 3, [page.predictor]))
    for tag, kind in ((292, 4), (293, 4), (347, 7)):  # T4Options, T6Options, JPEGTables
        if tag in page.ifd.tags and page.compression in (3, 4, 7):
            tags.append((tag, kind, page.ifd.raw(tag) if kind == 7 else [page.ifd.int(tag, 0)]))
    if page.photometric == 6:
        tags.append((530, 3, list(page.subsampling)))
    if page.tiled:
        tags += [(322, 4, [page.tile[1]]), (323, 4, [page.tile[0]])]
    else:
        tags.append((278, 4, [page.tile[0]]))
    return _write(order, tags, (324, 325) if page.tiled else (273, 279), blocks)


def _write(
    order: str, tags: list[tuple[int, int, Sequence[int] | bytes]], places: tuple[int, int], blocks: Sequence[bytes]
) -> bytes:
    total = sum(map(len, blocks)) + 64 * len(blocks) + sum(len(v) * 4 for _, _, v in tags) + 4096
    big = total >= 1 << 32
    word, count_code, entry_code = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
    head, inline = (16, 8) if big else (8, 4)
    kind = 16 if big else 4
    entries = sorted([*tags, (places[0], kind, [0] * len(blocks)), (places[1], kind, [len(b) for b in blocks])])
    size = struct.calcsize("<" + count_code) + len(entries) * (20 if big else 12) + struct.calcsize("<" + word)
    side = head + size
    offsets, out = {}, []
    for tag, code, values in entries:
        data = _pack(order, code, values)
        offsets[tag] = side
        side += 0 if len(data) <= inline else len(data) + len(data) % 2
    starts = []
    for block in blocks:
        starts.append(side)
        side += len(block) + len(block) % 2
    mark = b"II" if order == "<" else b"MM"
    if big:
        out.append(mark + struct.pack(order + "HHHQ", 43, 8, 0, head))
    else:
        out.append(mark + struct.pack(order + "HI", 42, head))
    out.append(struct.pack(order + count_code, len(entries)))
    tail = []
    for tag, code, values in entries:
        data = _pack(order, code, starts if tag == places[0] else values)
        out.append(struct.pack(order + entry_code, tag, code, len(values)))
        if len(data) <= inline:
            out.append(data.ljust(inline, b"\0"))
        else:
            out.append(struct.pack(order + word, offsets[tag]))
            tail.append(data + b"\0" * (len(data) % 2))
    out.append(struct.pack(order + word, 0))
    for block in blocks:
        tail += [block, b"\0" * (len(block) % 2)]
    return b"".join([*out, *tail])


def _pack(order: str, kind: int, values: Sequence[int] | bytes) -> bytes:
    if isinstance(values, bytes):
        return values
    return np.asarray(values, np.dtype(order + {3: "u2", 4: "u4", 16: "u8"}[kind])).tobytes()
