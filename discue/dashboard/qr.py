"""QR codes (ISO/IEC 18004) as SVG: for secrets that a phone reads from the screen."""

from typing import Final

import segno

_QUIET: Final = 4
"""The width of the empty border, in modules."""
_MOST_BYTES: Final = 362
"""A code with more is too dense for the camera of a phone at the size of the page."""


class TooLong(ValueError):
    """The text does not fit into a code."""


def svg_of(text: str, label: str) -> str:
    """Return the code as an SVG element. `label` must need no escaping. Raises TooLong."""
    content = text.encode()
    if len(content) > _MOST_BYTES:
        raise TooLong(f"{len(content)} bytes do not fit into a QR code")
    rows = list(segno.make(content, error="m", micro=False).matrix_iter(border=_QUIET))
    dark = "".join(f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, is_dark in enumerate(row) if is_dark)
    # Dark on light in every theme: not all scanners read the inverse.
    return (
        f'<svg class="qr" role="img" aria-label="{label}" viewBox="0 0 {len(rows)} {len(rows)}" '
        f'shape-rendering="crispEdges"><rect width="{len(rows)}" height="{len(rows)}" fill="#fff"/>'
        f'<path d="{dark}" fill="#000"/></svg>'
    )
