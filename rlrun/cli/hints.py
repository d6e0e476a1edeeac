"""What is meant by a command line that rlrun does not read: flags for keys, bare names, others' verbs."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rlrun.config import ConfigError, catalog
from rlrun.config.keys import whole_number
from rlrun.config.run import GROUPS, MainKeys
from rlrun.config.vocabulary import advice, hint, near, nearest

CHOSEN = (*GROUPS, "listener", "experiment")
YAML = (".yaml", ".yml")
MAIN = (*CHOSEN, *(f.name for f in fields(MainKeys)))
Pair = tuple[str, str, str]  # a key or '', its value, and the word as it was typed


def unknown_command(words: Sequence[str], verbs: Iterable[str]) -> ConfigError:
    """The refusal of a command line whose first word is no verb."""
    word, *rest = words
    line = hint(word, verbs) if word.isidentifier() else ""
    if line:
        verb = nearest(word, verbs) if line.startswith("did you mean") else None
        usage = shlex.join(["rlrun", verb, *(rest or ["--help"])]) if verb else ""
        return ConfigError(f"unknown command {word!r}", line, usage)
    otherwise = f"commands are {', '.join(verbs)}; training takes KEY=VALUE, as in rlrun algo=dqn"
    return _answer(f"unknown command {word!r}", _pairs(words), otherwise)


def misread(words: Sequence[str], odd: str, known: Sequence[str], flags: Sequence[str]) -> ConfigError:
    """The refusal of words that are no overrides, of which `odd` is the first.

    `known` are the flags among the arguments, which stay, and `flags` all there are.
    """
    what = f"cannot read {odd!r}: a run is described by KEY=VALUE"
    if odd.startswith("-"):
        what = f"{odd} is no flag of rlrun: a key is set by KEY=VALUE, without dashes"
    return _answer(what, _pairs(words), "rlrun --help shows the flags, rlrun describe the keys", known, flags)


def _answer(
    what: str, pairs: Sequence[Pair], otherwise: str, known: Sequence[str] = (), flags: Sequence[str] = ()
) -> ConfigError:
    """What the pairs mean as a whole command line, and advice about the first that has no place in it."""
    try:
        keys = _keys(pairs)
    except ConfigError as error:
        return ConfigError(what, *error.lines[:2])
    told = [(*pair, _override(*pair[:2], keys)) for pair in pairs]
    meant = [word for *_, override in told for word in override]
    line = f"did you mean {shlex.join(['rlrun', *known, *meant])}?" if meant else ""
    name, value, word = next((each[:3] for each in told if not each[3]), ("", "", ""))
    about = _advice(name, value) if word else ""
    if word and not about:
        flag = nearest(word.partition("=")[0], flags) if word.startswith("-") else None
        line = f"did you mean {flag}?" if flag else line
        about = f"{word} is neither a flag nor a key" if meant and not flag else otherwise
    return ConfigError(what, line, about or ("" if line else otherwise))


def _pairs(words: Sequence[str]) -> list[Pair]:
    """Keys and values, however they were put: --key value, --key=value, key value, key:value, value."""
    joined: list[str] = []
    for word in words:  # key = value
        if joined and (word.startswith("=") or joined[-1].endswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
    pairs: list[Pair] = []
    rest = iter(enumerate(joined))
    for i, word in rest:
        following = joined[i + 1] if i + 1 < len(joined) else "-"
        alone = following.startswith("-") or "=" in following
        name, sign, value = re.match(r"([^=:]*)([=:]?)(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
        if word.startswith("-"):
            name = name.lstrip("-").replace("-", "_")
            pairs.append((name, value if sign or alone else next(rest)[1], word))
        elif sign and (sign == "=" or near(name, MAIN)):
            pairs.append((name.lstrip("+"), value, word))
        elif name.partition(".")[0] in MAIN and not sign:
            pairs.append((name, "" if alone else next(rest)[1], word))
        else:
            pairs.append((_group(word), word, word))
    return pairs


def _group(word: str) -> str:
    """The group that a name is of, exactly or nearly; '' if of none, as a file."""
    if Path(word).suffix in YAML or os.path.exists(word):  # unlike Path's, false of what can be no path
        return ""
    exact = [group for group in CHOSEN if word in catalog.recipes(group)]
    return next(iter(exact or [group for group in GROUPS if catalog.option(group, word)]), "")


def _keys(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The keys of what the pairs choose with their values; only what can be chosen, where that will do."""
    groups = dict.fromkeys(CHOSEN)
    chosen = [_override(name, value, groups) for name, value, _ in pairs]
    if all(chosen) or not any(name for name, _, _ in pairs):
        return groups
    from rlrun.config import compose

    return groups | compose.values([word for each in chosen for word in each])


def _override(name: str, value: str, keys: Mapping[str, Any]) -> list[str]:
    """The overrides that a key and its value mean; none where there is no such key."""
    key = name if name in keys else None if advice(name) or not name else nearest(name, keys)
    if key is None:
        return []
    if key in CHOSEN:
        return catalog.option(key, value).split() or [f"{key}={value or 'NAME'}"]
    if key == "device" and value.lower() in ("", "1", "true"):
        value = "cpu" if name.startswith("no_") else "cuda"
    if isinstance(keys[key], int):
        value = str(whole_number(value) or value)
    return [f"{key}={value or ('true' if isinstance(keys[key], bool) else 'VALUE')}"]


def _advice(name: str, value: str) -> str:
    """What to do about a word that means no key; '' where that is unknown."""
    path = Path(value)
    if path.suffix in YAML:
        place = f"conf/experiment/{path.stem}.yaml"
        return f"a config of your own is {place}, under # @package _global_: say experiment={path.stem}"
    if not name and value and os.path.isdir(value):
        return f"a run's folder follows a verb: rlrun evaluate {shlex.quote(value)}, or play, resume, report"
    return advice(name or value)
