"""QR codes: the picture shows the modules of the code, with a border and a label."""

import re

import segno

from discue.dashboard.pages.account import svg_of

URI = "otpauth://totp/discue:ada%40example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=discue"
BORDER = 4


def test_picture_has_the_modules_of_the_code_inside_a_border() -> None:
    picture = svg_of(URI, "the label")
    drawn = {(int(x) - BORDER, int(y) - BORDER) for x, y in re.findall(r"M(\d+) (\d+)h1v1h-1z", picture)}

    rows = segno.make(URI.encode(), error="m", micro=False).matrix
    assert drawn == {(x, y) for y, row in enumerate(rows) for x, is_dark in enumerate(row) if is_dark}
    size = len(rows) + 2 * BORDER
    assert picture.startswith(f'<svg class="qr" role="img" aria-label="the label" viewBox="0 0 {size} {size}"')


def test_text_too_long_for_a_phone_camera_has_no_qr_code() -> None:
    assert svg_of("a" * 362, "the longest")
    assert svg_of("a" * 363, "one more") == ""
