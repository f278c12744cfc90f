"""QR codes: their parts are where the standard puts them, and scanners have read these very codes."""

import hashlib
import re

import pytest

from discue.dashboard import qr
from discue.dashboard.qr import Matrix, TooLong, matrix_of, svg_of

URI = b"otpauth://totp/discue:ada%40example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=discue"
READ_BY_SCANNERS = {
    URI: "e33663d147c322aa10a0dec678c21cc6fad92f4b5b78673d8966c2d67baefc03",
    b"x" * 360: "9434ba67ca92a48ae882675ff97ce1b6b1345188a02799e886565329b88bf4e4",
}
CORNER = ("#######", "#.....#", "#.###.#", "#.###.#", "#.###.#", "#.....#", "#######")


def _lines(matrix: Matrix) -> list[str]:
    return ["".join(".#"[each] for each in row) for row in matrix]


@pytest.mark.parametrize("content", READ_BY_SCANNERS, ids=len)
def test_code_is_one_that_scanners_have_read(content: bytes) -> None:
    bits = "".join(_lines(matrix_of(content))).replace(".", "0").replace("#", "1")
    assert hashlib.sha256(bits.encode()).hexdigest() == READ_BY_SCANNERS[content]


@pytest.mark.parametrize(("length", "version"), [(0, 1), (14, 1), (15, 2), (106, 6), (107, 7), (213, 10), (362, 14)])
def test_smallest_version_that_has_room_is_used(length: int, version: int) -> None:
    lines = _lines(matrix_of(b"a" * length))
    assert {len(lines), *map(len, lines)} == {version * 4 + 17}
    for corner in (lines[:7], lines[-7:]):
        assert tuple(line[:7] for line in corner) == CORNER
    assert tuple(line[-7:] for line in lines[:7]) == CORNER
    assert lines[6][8:-8] == ("#." * 40)[: len(lines) - 16]


def test_content_that_fits_no_version_is_refused() -> None:
    with pytest.raises(TooLong):
        matrix_of(b"a" * 363)


@pytest.mark.parametrize("version", [1, 5, 8, 14])
def test_every_block_is_divisible_by_the_generator(version: int) -> None:
    degree = qr._CORRECTION[version - 1]
    block = bytes(range(40))
    whole = block + qr._correction(block, degree)
    # A codeword is a multiple of the generator, so each of its roots makes it zero.
    root = 1
    for _ in range(degree):
        value = 0
        for byte in whole:
            value = qr._product(value, root) ^ byte
        assert value == 0
        root = qr._product(root, 2)


def test_picture_has_a_border_and_its_label() -> None:
    picture = svg_of("discue", "the label")
    assert picture.startswith('<svg class="qr" role="img" aria-label="the label" viewBox="0 0 29 29"')
    places = [(int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)h1v1h-1z", picture)]
    assert {min(x for x, _ in places), min(y for _, y in places)} == {4}
    assert len(places) == sum(map(sum, matrix_of(b"discue")))
