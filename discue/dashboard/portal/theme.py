"""The stylesheet of a session: its colours, font and corners, as custom properties and a few rules."""

from typing import Final, NamedTuple

from discue.dashboard.portal.rules import PortalTheme

_CONTRAST: Final = 5.2
"""Contrast of the accent with its ground: above the 4.5 of WCAG, because tinted grounds are a little closer to it."""
_STEP: Final = 0.04
_TINT: Final = 0.08
_GENERIC: Final = frozenset({"serif", "sans-serif", "monospace", "cursive", "system-ui", "ui-sans-serif", "ui-serif"})
_ROUNDED: Final = ".button,input,select,textarea,pre,.note,.lane,.empty,.chart,.wide,dialog"


class Colour(NamedTuple):
    """A colour in sRGB, each channel from 0 to 255."""

    red: float
    green: float
    blue: float

    @property
    def text(self) -> str:
        return "#" + "".join(f"{round(channel):02x}" for channel in self)


_WHITE: Final = Colour(255, 255, 255)
_BLACK: Final = Colour(0, 0, 0)
_DARK_GROUND: Final = Colour(30, 30, 35)


def stylesheet(theme: PortalTheme) -> bytes:
    """Return the style of a session. An accent is made darker or lighter as far as its text would be hard to read."""
    rules = []
    if theme.accent:
        given = Colour(*(int(theme.accent[start : start + 2], 16) for start in (1, 3, 5)))
        light, dark = readable(given, _WHITE), readable(given, _DARK_GROUND)
        rules.append(
            f":root{{--accent:light-dark({light.text},{dark.text});"
            f"--on-accent:light-dark({_text_on(light).text},{_text_on(dark).text});"
            f"--tint:light-dark({_mixed(_WHITE, light, _TINT).text},{_mixed(_DARK_GROUND, dark, _TINT).text})}}"
        )
    if theme.font:
        names = [" ".join(name.split()) for name in theme.font.split(",")]
        families = ",".join(name if name in _GENERIC else f'"{name}"' for name in names if name)
        rules.append(f"body{{font-family:{families or 'inherit'}}}")
    if theme.radius is not None:
        rules.append(f"{_ROUNDED}{{border-radius:{theme.radius}px}}")
    return "\n".join(rules).encode()


def readable(colour: Colour, ground: Colour) -> Colour:
    """Return the colour, mixed with black or white until text of it is easy to read on the ground."""
    target = _BLACK if _luminance(ground) > _luminance(_DARK_GROUND) else _WHITE
    share, found = 0.0, colour
    while contrast(found, ground) < _CONTRAST and share < 1:
        share += _STEP
        found = _mixed(colour, target, min(share, 1))
    return found


def contrast(one: Colour, other: Colour) -> float:
    """Return the contrast of two colours, from 1 to 21 (WCAG 2.2)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _text_on(ground: Colour) -> Colour:
    return max(_WHITE, _BLACK, key=lambda text: contrast(text, ground))


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    return Colour(*(a + (b - a) * share for a, b in zip(one, other, strict=True)))


def _luminance(colour: Colour) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
