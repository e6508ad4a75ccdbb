"""How a mistake in a file is said: what was found, what would be right, the nearest valid word."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One mistake. `path` is the key at fault: from the top of the file, or relative to whoever says it."""

    message: str
    path: KeyPath = ()
    hint: str | None = None

    def below(self, *prefix: str | int) -> Problem:
        return Problem(self.message, (*prefix, *self.path), self.hint)


def show(value: Any) -> str:
    """A value as one would write it in the file, cut where it is long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        kind, unit = ("a list", "item") if isinstance(value, list) else ("a mapping", "key")
        return f"{kind} of {len(value)} {unit}{'' if len(value) == 1 else 's'}" if value else f"{kind}, empty"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def found(value: Any) -> str:
    """A value with the name of its kind, for "found ..."."""
    if value is None or isinstance(value, (bool, list, dict)):
        return show(value)
    if isinstance(value, str):
        return f"the text {show(value)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value}"
    return f"the number {show(value)}"


def listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The valid word that was probably meant."""
    import difflib

    known = {candidate.lower(): candidate for candidate in words}
    low = word.lower()
    close = difflib.get_close_matches(low, known, n=1, cutoff=0.6)
    if close:
        return known[close[0]]
    akin = [name for name in known if sorted(name) == sorted(low)]  # `rl` for `lr`: too short for difflib
    akin += [name for name in known if len(low) > 1 and (name.startswith(low) or low.startswith(name))]
    return known[akin[0]] if len(akin) == 1 else None


def suggest(word: str, words: Iterable[str]) -> str:
    """What is allowed, led by the nearest of it."""
    words = list(words)
    guess = nearest(word, words)
    allowed = f"allowed: {listed(words[:40])}" if words else "none is allowed here"
    return f"did you mean `{guess}`? ({allowed})" if guess else allowed
