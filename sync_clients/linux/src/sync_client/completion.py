# SPDX-License-Identifier: GPL-3.0-or-later
"""Completion for bash, zsh and fish, made from the parser itself: it knows what the parser knows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

_BASH = """_sync_client() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" key="" word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${{COMP_WORDS[i]}}"
    case " ${{_sync_client_keys}} " in *" ${{key:+$key/}}$word "*) key="${{key:+$key/}}$word" ;; esac
  done
  local words=""
  case "$key" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [[ ${{#COMPREPLY[@]}} -eq 0 ]] && COMPREPLY=($(compgen -f -- "$cur"))
}}
_sync_client_keys="{keys}"
complete -o filenames -F _sync_client sync-client
"""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    tree = dict(_tree(parser, ""))
    if shell == "fish":
        return "".join(_fish(tree))
    cases = "\n".join(f'    "{key}") words="{" ".join(words)}" ;;' for key, words in tree.items())
    bash = _BASH.format(cases=cases, keys=" ".join(key for key in tree if key))
    if shell == "bash":
        return bash
    return "#compdef sync-client\nautoload -U +X bashcompinit && bashcompinit\n" + bash


def _tree(parser: argparse.ArgumentParser, key: str) -> Iterator[tuple[str, list[str]]]:
    words: list[str] = []
    below: list[tuple[str, argparse.ArgumentParser]] = []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        words += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            words += list(action.choices)
            below += list(action.choices.items())
        elif action.choices and not action.option_strings:
            words += [str(choice) for choice in action.choices]
    yield key, words
    for name, sub in below:
        yield from _tree(sub, f"{key}/{name}" if key else name)


def _fish(tree: dict[str, list[str]]) -> Iterator[str]:
    for key, words in tree.items():
        parts = key.split("/") if key else []
        seen = " ".join(f"; and __fish_seen_subcommand_from {part}" for part in parts)
        condition = f"true{seen and ' ' + seen}" if parts else "__fish_use_subcommand"
        for word in words:
            if word.startswith("--"):
                yield f"complete -c sync-client -n '{condition}' -l {word[2:]}\n"
            elif not word.startswith("-"):
                yield f"complete -c sync-client -n '{condition}' -a {word}\n"
