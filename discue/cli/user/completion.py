"""`discue completion`: prints a script that completes commands and flags, without starting the program."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Final, NamedTuple

from discue.cli.output import say
from discue.cli.verbs import Commands

_INSTALL: Final = {
    "bash": "discue completion bash > ~/.local/share/bash-completion/completions/discue",
    "zsh": 'discue completion zsh > "${fpath[1]}/_discue"',
    "fish": "discue completion fish > ~/.config/fish/completions/discue.fish",
}


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "completion",
        help="print a script that completes commands and flags in a shell",
        description="Print a script that completes commands and flags in a shell. It needs no program "
        "that runs while you type. For bash: "
        + _INSTALL["bash"]
        + "; for zsh: "
        + _INSTALL["zsh"]
        + "; for fish: "
        + _INSTALL["fish"],
        allow_abbrev=False,
    )
    parser.add_argument("shell", choices=sorted(_INSTALL), help="the shell that the script is for")
    parser.set_defaults(start=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    # The parsers of all commands: it imports this module.
    from discue.cli.main import command_parser  # noqa: PLC0415

    words = list(_words_of(command_parser(), ()))
    scripts = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    say(scripts[arguments.shell](words))
    return 0


class _Words(NamedTuple):
    """The words that can follow a command."""

    path: tuple[str, ...]
    verbs: dict[str, str]
    """Commands and verbs, with their summaries."""
    flags: dict[str, str]
    choices: dict[str, tuple[str, ...]]
    """Values of flags that have a few; "" for the positional argument."""


def _words_of(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[_Words]:
    verbs: dict[str, str] = {}
    flags: dict[str, str] = {}
    choices: dict[str, tuple[str, ...]] = {}
    below: list[tuple[str, argparse.ArgumentParser]] = []
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            summaries = {each.dest: each.help or "" for each in action._choices_actions}  # noqa: SLF001
            verbs |= {name: summaries.get(name, "") for name in action.choices}
            below += action.choices.items()
            continue
        for flag in action.option_strings:
            if flag.startswith("--"):
                flags[flag] = (action.help or "").replace("%%", "%")
                if action.choices:
                    choices[flag] = tuple(map(str, action.choices))
        if not action.option_strings and action.choices:
            choices[""] = tuple(map(str, action.choices))
    yield _Words(path, verbs, flags, choices)
    for name, each in below:
        yield from _words_of(each, (*path, name))


def _bash(words: list[_Words]) -> str:
    cases = []
    for each in words:
        for flag, values in each.choices.items():
            if flag:
                cases.append(f'    "{" ".join(each.path)} {flag}") words="{" ".join(values)}" ;;')
    paths = [
        f'    "{" ".join(each.path)}") words="{" ".join([*each.verbs, *each.choices.get("", ()), *each.flags])}" ;;'
        for each in words
    ]
    known = " ".join(f'"{" ".join(each.path)}"' for each in words if each.path)
    return f"""\
_discue() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" path="" words="" word known
  COMPREPLY=()
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    for known in {known}; do
      [[ "${{path:+$path }}$word" == "$known" ]] && path="$known" && break
    done
  done
  case "$path $previous" in
{chr(10).join(cases)}
  esac
  [[ -n "$words" ]] || case "$path" in
{chr(10).join(paths)}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ ${{#COMPREPLY[@]}} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$current"))
}}
complete -F _discue discue"""


def _zsh(words: list[_Words]) -> str:
    cases, values = [], []
    for each in words:
        for flag, choices in each.choices.items():
            if flag:
                place = _quoted(f"{' '.join(each.path)} {flag}")
                values.append(f"    {place}) candidates=({' '.join(map(_quoted, choices))}) ;;")
        described = {**each.verbs, **dict.fromkeys(each.choices.get("", ()), ""), **each.flags}
        listed = " ".join(_quoted(f"{name}:{text.replace(':', ' -')}") for name, text in described.items())
        cases.append(f"    {_quoted(' '.join(each.path))}) candidates=({listed}) ;;")
    known = " ".join(_quoted(" ".join(each.path)) for each in words if each.path)
    return f"""\
#compdef discue
_discue() {{
  local command="" word
  local -a known candidates
  known=({known})
  for word in "${{(@)words[2,CURRENT-1]}}"; do
    (( ${{known[(Ie)${{command:+$command }}$word]}} )) && command="${{command:+$command }}$word"
  done
  case "$command ${{words[CURRENT-1]}}" in
{chr(10).join(values)}
  esac
  (( $#candidates )) || case "$command" in
{chr(10).join(cases)}
  esac
  _describe discue candidates || _files
}}
_discue "$@\""""


def _fish(words: list[_Words]) -> str:
    known = " ".join(_quoted(" ".join(each.path)) for each in words if each.path)
    lines = []
    for each in words:
        condition = f'test "$(__discue_command)" = "{" ".join(each.path)}"'
        at = f"complete -c discue -n {_quoted(condition)}"
        lines += [f"{at} -f -a {name} -d {_quoted(text)}" for name, text in each.verbs.items()]
        lines += [f"{at} -f -a {name}" for name in each.choices.get("", ())]
        for flag, text in each.flags.items():
            values = f" -x -a {_quoted(' '.join(each.choices[flag]))}" if flag in each.choices else ""
            lines.append(f"{at} -l {flag.removeprefix('--')} -d {_quoted(text)}{values}")
    return f"""\
function __discue_command
  set -l found
  for word in (commandline -opc)[2..]
    if contains -- (string join -- " " $found $word) {known}
      set found $found $word
    end
  end
  string join -- " " $found
end
{chr(10).join(lines)}"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
