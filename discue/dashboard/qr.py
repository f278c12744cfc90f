"""QR codes (ISO/IEC 18004) of short texts, as SVG: for secrets that a phone reads from the screen.

Bytes only, with error correction of level M, up to version 14: 362 bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

_CORRECTION: Final = (10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24)
"""Codewords of error correction in each block of level M, by version."""
_BLOCKS: Final = (1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9)
_VERSIONS: Final = range(1, len(_BLOCKS) + 1)
_BYTE_MODE: Final = 0b0100
_PADDING: Final = (0xEC, 0x11)
_FIELD: Final = 0x11D
"""The polynomial of the field in which error correction is computed."""
_FORMAT, _FORMAT_MASK = 0x537, 0x5412
_VERSION_CODE: Final = 0x1F25
_FIRST_WITH_VERSION: Final = 7
_FIRST_WITH_LONG_COUNT: Final = 10
_QUIET: Final = 4
"""The width of the empty border, in modules."""

Matrix = tuple[tuple[bool, ...], ...]
"""The modules by rows; true is dark."""


class TooLong(ValueError):
    """The text does not fit into a code."""


def svg_of(text: str, label: str) -> str:
    """Return the code as an SVG element. `label` must need no escaping."""
    matrix = matrix_of(text.encode())
    size = len(matrix) + 2 * _QUIET
    modules = ((x, y) for y, row in enumerate(matrix, _QUIET) for x, is_dark in enumerate(row, _QUIET) if is_dark)
    dark = "".join(f"M{x} {y}h1v1h-1z" for x, y in modules)
    # Dark on light in every theme: not all scanners read the inverse.
    return (
        f'<svg class="qr" role="img" aria-label="{label}" viewBox="0 0 {size} {size}" shape-rendering="crispEdges">'
        f'<rect width="{size}" height="{size}" fill="#fff"/><path d="{dark}" fill="#000"/></svg>'
    )


def matrix_of(content: bytes) -> Matrix:
    """Return the modules of a code. Raises TooLong."""
    version = next((each for each in _VERSIONS if len(content) <= _capacity(each)), None)
    if version is None:
        raise TooLong(f"{len(content)} bytes do not fit into a QR code")
    symbol = _Symbol(version)
    symbol.place(_interleaved(_data(content, version), version))
    return min((symbol.masked(mask) for mask in range(len(_MASKS))), key=_penalty)


def _codewords(version: int) -> int:
    """Return the codewords of a version, those of error correction included."""
    modules = (16 * version + 128) * version + 64
    if version > 1:
        count = version // 7 + 2
        modules -= (25 * count - 10) * count - 55
    return (modules - (36 if version >= _FIRST_WITH_VERSION else 0)) // 8


def _data_codewords(version: int) -> int:
    return _codewords(version) - _CORRECTION[version - 1] * _BLOCKS[version - 1]


def _count_bits(version: int) -> int:
    return 16 if version >= _FIRST_WITH_LONG_COUNT else 8


def _capacity(version: int) -> int:
    return (_data_codewords(version) * 8 - 4 - _count_bits(version)) // 8


def _data(content: bytes, version: int) -> bytes:
    """Return the codewords of the content: mode, length, bytes, end, padding."""
    bits = f"{_BYTE_MODE:04b}{len(content):0{_count_bits(version)}b}" + "".join(f"{byte:08b}" for byte in content)
    total = _data_codewords(version)
    bits += "0" * min(4, total * 8 - len(bits))
    bits += "0" * (-len(bits) % 8)
    used = [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]
    return bytes(used + [_PADDING[number % 2] for number in range(total - len(used))])


def _interleaved(data: bytes, version: int) -> bytes:
    """Return the codewords in the order in which they are placed: those of all blocks in turns."""
    blocks, degree = _BLOCKS[version - 1], _CORRECTION[version - 1]
    short, longer = divmod(len(data), blocks)
    parts, start = [], 0
    for number in range(blocks):
        # The last blocks have one codeword more.
        end = start + short + (number >= blocks - longer)
        parts.append(data[start:end])
        start = end
    corrections = [_correction(part, degree) for part in parts]
    return bytes(_in_turns(parts)) + bytes(_in_turns(corrections))


def _in_turns(parts: Sequence[bytes]) -> Iterator[int]:
    for index in range(max(map(len, parts))):
        yield from (part[index] for part in parts if index < len(part))


def _product(one: int, other: int) -> int:
    """Multiply in the field of 256 elements."""
    result = 0
    while other:
        if other & 1:
            result ^= one
        one = one << 1 ^ (_FIELD if one & 0x80 else 0)
        other >>= 1
    return result


def _correction(data: bytes, degree: int) -> bytes:
    """Return the Reed-Solomon codewords: the rest of a division by the generator."""
    generator, root = [1], 1
    for _ in range(degree):
        shifted = [*generator, 0]
        scaled = [0, *(_product(each, root) for each in generator)]
        generator = [a ^ b for a, b in zip(shifted, scaled, strict=True)]
        root = _product(root, 2)
    rest = [0] * degree
    for byte in data:
        factor = byte ^ rest[0]
        rest = [a ^ _product(b, factor) for a, b in zip([*rest[1:], 0], generator[1:], strict=True)]
    return bytes(rest)


def _coded(value: int, generator: int) -> int:
    """Return a value followed by its check bits (BCH)."""
    width = generator.bit_length() - 1
    rest = value << width
    while rest.bit_length() > width:
        rest ^= generator << rest.bit_length() - width - 1
    return value << width | rest


_MASKS: Final[tuple[Callable[[int, int], bool], ...]] = (
    lambda x, y: (x + y) % 2 == 0,
    lambda _, y: y % 2 == 0,
    lambda x, _: x % 3 == 0,
    lambda x, y: (x + y) % 3 == 0,
    lambda x, y: (x // 3 + y // 2) % 2 == 0,
    lambda x, y: x * y % 2 + x * y % 3 == 0,
    lambda x, y: (x * y % 2 + x * y % 3) % 2 == 0,
    lambda x, y: ((x + y) % 2 + x * y % 3) % 2 == 0,
)


class _Place(NamedTuple):
    x: int
    y: int


class _Symbol:
    """The modules of a code: fixed patterns, and data that a mask is applied to."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._size = version * 4 + 17
        self._fixed: dict[_Place, bool] = {}
        self._data: dict[_Place, bool] = {}
        self._draw_fixed()

    def place(self, codewords: bytes) -> None:
        """Place the bits in columns of two, from the right, alternately upwards and downwards."""
        bits = iter("".join(f"{each:08b}" for each in codewords))
        for number, right in enumerate([*range(self._size - 1, 6, -2), 5, 3, 1]):
            rows = range(self._size) if number % 2 else range(self._size - 1, -1, -1)
            for place in (_Place(right - left, y) for y in rows for left in (0, 1)):
                if place not in self._fixed:
                    self._data[place] = next(bits, "0") == "1"

    def masked(self, mask: int) -> Matrix:
        modules = {place: value ^ _MASKS[mask](*place) for place, value in self._data.items()}
        modules |= self._fixed | self._format(mask)
        return tuple(tuple(modules[_Place(x, y)] for x in range(self._size)) for y in range(self._size))

    def _draw_fixed(self) -> None:
        for each in range(self._size):
            self._fixed[_Place(6, each)] = self._fixed[_Place(each, 6)] = each % 2 == 0
        last = self._size - 1
        for center in (_Place(3, 3), _Place(last - 3, 3), _Place(3, last - 3)):
            self._draw_square(center, 4, {2, 4})
        centers = self._alignment_centers()
        corners = {(6, 6), (6, last - 6), (last - 6, 6)}
        for center in (_Place(x, y) for x in centers for y in centers if (x, y) not in corners):
            self._draw_square(center, 2, {1})
        # Their values follow with the mask.
        self._fixed |= self._format(0)
        if self._version >= _FIRST_WITH_VERSION:
            code = _coded(self._version, _VERSION_CODE)
            for bit in range(18):
                along, across = bit // 3, self._size - 11 + bit % 3
                self._fixed[_Place(along, across)] = self._fixed[_Place(across, along)] = bool(code >> bit & 1)

    def _draw_square(self, center: _Place, radius: int, light: set[int]) -> None:
        """Draw nested squares, of which those at the distances `light` from the center are light."""
        for x in range(center.x - radius, center.x + radius + 1):
            for y in range(center.y - radius, center.y + radius + 1):
                if 0 <= x < self._size and 0 <= y < self._size:
                    self._fixed[_Place(x, y)] = max(abs(x - center.x), abs(y - center.y)) not in light

    def _alignment_centers(self) -> list[int]:
        if self._version == 1:
            return []
        count = self._version // 7 + 2
        step = (self._version * 8 + count * 3 + 5) // (count * 4 - 4) * 2
        return [6, *(self._size - 7 - number * step for number in range(count - 1))]

    def _format(self, mask: int) -> dict[_Place, bool]:
        """Return the modules that tell the level, M, and the mask, in two places."""
        code, last = _coded(mask, _FORMAT) ^ _FORMAT_MASK, self._size - 1
        one = [*(_Place(8, y) for y in (0, 1, 2, 3, 4, 5, 7, 8)), *(_Place(x, 8) for x in (7, 5, 4, 3, 2, 1, 0))]
        other = [*(_Place(last - n, 8) for n in range(8)), *(_Place(8, last - 6 + n) for n in range(7))]
        bits = [bool(code >> bit & 1) for bit in range(15)]
        return {**dict(zip(one, bits, strict=True)), **dict(zip(other, bits, strict=True)), _Place(8, last - 7): True}


def _penalty(matrix: Matrix) -> int:
    """Return how hard a code is to read: by runs, blocks, patterns like a corner, and imbalance."""
    lines = ["".join("01"[each] for each in line) for line in (*matrix, *zip(*matrix, strict=True))]
    runs = sum(len(run) - 2 for line in lines for run in _runs(line) if len(run) > 4)
    corners = sum(line.count(mark) for line in lines for mark in ("10111010000", "00001011101"))
    blocks = sum(
        matrix[y][x] == matrix[y][x + 1] == matrix[y + 1][x] == matrix[y + 1][x + 1]
        for y in range(len(matrix) - 1)
        for x in range(len(matrix) - 1)
    )
    dark = sum(map(sum, matrix)) * 100 / len(matrix) ** 2
    return runs + 3 * blocks + 40 * corners + 10 * int(abs(dark - 50) // 5)


def _runs(line: str) -> Iterator[str]:
    start = 0
    for index in range(1, len(line) + 1):
        if index == len(line) or line[index] != line[start]:
            yield line[start:index]
            start = index
