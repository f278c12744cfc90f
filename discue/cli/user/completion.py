"""`discue completion`: prints a script that completes commands and flags, without starting the program."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Final, TypeAlias

from discue.cli.declarations import Command, argument
from discue.cli.output import say

_INSTALL: Final = {
    "bash": "discue completion bash > ~/.local/share/bash-completion/completions/discue",
    "zsh": 'discue completion zsh > "${fpath[1]}/_discue"',
    "fish": "discue completion fish > ~/.config/fish/completions/discue.fish",
}


def command() -> Command:
    return Command(
        start=run,
        arguments=(argument("shell", "the shell that the script is for", choices=sorted(_INSTALL)),),
        description="The script starts no program while you type. For "
        + "; for ".join(f"{shell}: {line}" for shell, line in _INSTALL.items()),
    )


def run(arguments: argparse.Namespace) -> int:
    # The parsers of all commands: it imports this module.
    from discue.cli.main import command_parser  # noqa: PLC0415

    scripts = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    say(scripts[arguments.shell](dict(_entries(command_parser()))))
    return 0


_Entries: TypeAlias = Mapping[str, Mapping[str, str]]
"""The words that can follow a command, or a flag that has a few values, with their descriptions."""


def _entries(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    words: dict[str, str] = {}
    below: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to ask
        values = dict.fromkeys(map(str, action.choices or ()), "")
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            below |= action.choices
            values |= {each.dest: each.help or "" for each in action._choices_actions}  # noqa: SLF001
        if not action.option_strings:
            words |= values
        for flag in action.option_strings:
            if flag.startswith("--"):
                words[flag] = (action.help or "").replace("%%", "%")
                if values:
                    yield f"{path} {flag}", values
    yield path, words
    for name, each in below.items():
        yield from _entries(each, f"{path} {name}".strip())


def _commands(entries: _Entries) -> list[str]:
    return [quote(path) for path in entries if path and " --" not in path]


def _bash(entries: _Entries) -> str:
    cases = [f"      {quote(path)}) found={quote(' '.join(words))} ;;" for path, words in entries.items()]
    return f"""\
_discue() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" path="" found="" word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "${{path:+$path }}$word" in
      {"|".join(_commands(entries))}) path="${{path:+$path }}$word" ;;
    esac
  done
  for word in "$path ${{COMP_WORDS[COMP_CWORD-1]}}" "$path"; do
    case "$word" in
{chr(10).join(cases)}
    esac
    [[ -z "$found" ]] || break
  done
  COMPREPLY=($(compgen -W "$found" -- "$current"))
  [[ ${{#COMPREPLY[@]}} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$current"))
}}
complete -F _discue discue"""


def _zsh(entries: _Entries) -> str:
    cases = []
    for path, words in entries.items():
        described = (quote(f"{word}:{text.replace(':', ' -')}") for word, text in words.items())
        cases.append(f"      {quote(path)}) found=({' '.join(described)}) ;;")
    return f"""\
#compdef discue
_discue() {{
  local command="" word
  local -a found
  for word in "${{(@)words[2,CURRENT-1]}}"; do
    case "${{command:+$command }}$word" in
      {"|".join(_commands(entries))}) command="${{command:+$command }}$word" ;;
    esac
  done
  for word in "$command ${{words[CURRENT-1]}}" "$command"; do
    case "$word" in
{chr(10).join(cases)}
    esac
    (( $#found )) && break
  done
  _describe discue found || _files
}}
_discue "$@\""""


def _fish(entries: _Entries) -> str:
    lines = []
    for path, words in entries.items():
        condition = f'test "$(__discue_command)" = "{path}"'
        for word, text in words.items() if " --" not in path else ():
            given = f"-f -a {word}"
            if word.startswith("--"):
                values = " ".join(entries.get(f"{path} {word}", ()))
                given = f"-l {word.removeprefix('--')}" + (f" -x -a {quote(values)}" if values else "")
            lines.append(f"complete -c discue -n {quote(condition)} {given} -d {quote(text)}")
    return f"""\
function __discue_command
  set -l found
  for word in (commandline -opc)[2..]
    if contains -- (string join -- " " $found $word) {" ".join(_commands(entries))}
      set found $found $word
    end
  end
  string join -- " " $found
end
{chr(10).join(lines)}"""
