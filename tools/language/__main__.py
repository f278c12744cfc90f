"""Prints what the language rules find, or texts to read: `python -m tools.language [PATH…] [--sample [SEED]]`."""

import argparse
import random
import sys
import textwrap

from tools.language.project import ROOT, all_hits, hits_below, pages, program_texts
from tools.language.source import Text

_TEXTS, _PAGES = 10, 2


def main(arguments: list[str]) -> int:
    """Print the hits below the paths, or of the whole project; with --sample, texts drawn at random instead."""
    parser = argparse.ArgumentParser(prog="python -m tools.language", description=main.__doc__)
    parser.add_argument("paths", nargs="*", metavar="PATH")
    parser.add_argument(
        "--sample",
        nargs="?",
        type=int,
        const=random.randrange(1_000_000),  # noqa: S311 - nothing depends on it but what is read
        metavar="SEED",
        help="the same seed: the same texts",
    )
    options = parser.parse_args(arguments)
    if options.sample is not None:
        _print_sample(options.sample)
        return 0
    hits = hits_below(options.paths) if options.paths else all_hits()
    print("\n".join([*map(str, hits), f"{len(hits)} hits"]))
    return 1 if hits else 0


def _print_sample(seed: int) -> None:
    """Print ten docstrings, ten error messages, and two pages of documentation."""
    drawn = random.Random(seed)  # noqa: S311 - nothing depends on it but what is read
    texts = program_texts()
    docstrings = [text for text in texts if text[1].kind.endswith("docstring")]
    errors = [text for text in texts if text[1].is_error]
    print(f"Drawn with seed {seed}.\n\n## Docstrings")
    for path, text in drawn.sample(docstrings, _TEXTS):
        _print_text(path, text)
    print("## Error messages")
    for path, text in drawn.sample(errors, _TEXTS):
        _print_text(path, text)
    print("## Pages")
    for path in drawn.sample(sorted(pages()), _PAGES):
        print(f"{path}\n\n{(ROOT / path).read_text(encoding='utf-8')}")


def _print_text(path: str, text: Text) -> None:
    print(f"{path}:{text.line}\n{textwrap.indent(textwrap.dedent(text.text).strip(), '    ')}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
