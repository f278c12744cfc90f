"""The stylesheet of a session: what an accent becomes, and what fonts are called in it."""

import re
from itertools import product

import pytest

from discue.dashboard.portal.rules import PortalTheme
from discue.dashboard.portal.theme import Colour, contrast, readable, stylesheet

WHITE, DARK = Colour(255, 255, 255), Colour(30, 30, 35)


@pytest.mark.parametrize("ground", [WHITE, DARK])
def test_text_in_any_accent_is_readable(ground: Colour) -> None:
    accents = [Colour(*channels) for channels in product((0, 85, 170, 255), repeat=3)]
    assert [accent.text for accent in accents if contrast(readable(accent, ground), ground) < 4.5] == []


def test_accent_that_is_readable_stays_as_it_is() -> None:
    assert readable(Colour(74, 65, 216), WHITE).text == "#4a41d8"


def test_contrast_of_black_and_white_is_the_highest() -> None:
    assert contrast(Colour(0, 0, 0), WHITE) == pytest.approx(21)
    assert contrast(WHITE, WHITE) == 1


def test_names_of_fonts_are_quoted_and_generic_ones_are_not() -> None:
    style = stylesheet(PortalTheme(font="Source  Sans 3, Inter,, sans-serif")).decode()
    assert style == 'body{font-family:"Source Sans 3","Inter",sans-serif}'


def test_theme_without_values_is_an_empty_stylesheet() -> None:
    assert stylesheet(PortalTheme()) == b""


def test_radius_may_be_zero() -> None:
    assert re.search(r"border-radius:0px", stylesheet(PortalTheme(radius=0)).decode())
