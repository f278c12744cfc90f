"""A function of browsers that finds ids on more than one line."""

from typing import Final

WRAPPED_IDS: Final = """() => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
    while (texts.nextNode()) {
        const text = texts.currentNode, range = document.createRange();
        if (text.parentElement.closest("pre, textarea, option")) continue;
        for (const {0: id, index} of text.data.matchAll(/\\b[0-9A-Za-z]{21}\\b/g)) {
            range.setStart(text, index);
            range.setEnd(text, index + id.length);
            if (new Set([...range.getClientRects()].map((each) => each.top)).size > 1) found.push(id);
        }
    }
    return found;
}"""
"""Returns the ids on a page that are on more than one line."""
