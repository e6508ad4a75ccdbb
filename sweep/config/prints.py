"""Metrics in what a script prints: `print(f"epoch {e}  loss {loss:.4f}")` -> a pattern that finds them again.

A printed line is made plain text with a mark for each value, whether it was an f-string, `%`, `.format()` or
several arguments of print(). A word before a mark names it, if it is a word for a metric or for a step.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def bag(text: str) -> frozenset[str]:
    return frozenset(text.split())


GOOD = bag(
    "acc accuracy acc1 acc5 auc ap bleu dice f1 fscore hmean iou map miou precision psnr r2 recall return returns "
    "reward rouge score ssim top1 top5"
)
BAD = bag("bpc cer cost epe err error fid loss mae mape mse nll perplexity ppl regret rmse rmsle wer")
_HELD_OUT = ("val", "valid", "validation", "dev", "test", "eval")
_SIDES = (*_HELD_OUT, "train", "training")
_STEPS = bag("epoch epochs step steps iter iteration")
_SAYS = bag("print echo info debug warning write")

_MARK = "\0"
_NAMED = re.compile(rf"((?:\b(?:{'|'.join(_SIDES)})[ _/.-]+)?[A-Za-z][\w/]*)(\s*[:=]?\s*){_MARK}", re.IGNORECASE)
_PERCENT = re.compile(r"%(?:\(\w+\))?[-+ #0]*\d*(?:\.\d+)?[diouxefgrs]", re.IGNORECASE)
_BRACES = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True)
class Printed:
    names: list[str]
    pattern: str  # a regular expression; each metric, and `step` where there is one, is a named group of it


def direction(name: str) -> str:
    """minimize, maximize, or "" where the name does not tell."""
    parts = set(re.split(r"[^a-z0-9]+", name.lower()))
    if parts & BAD:
        return "minimize"
    return "maximize" if parts & GOOD else ""


def rank(name: str) -> tuple[bool, bool, bool]:
    """Sorts metrics by how likely one is the objective: held-out ones first, then those that are not a loss."""
    parts = re.split(r"[^a-z0-9]+", name.lower())
    training = bool({"train", "training"} & set(parts))
    return (training, not set(_HELD_OUT) & set(parts), direction(name) != "maximize")


def best_print(calls: Iterable[ast.Call]) -> Printed | None:
    """The printed line with the likeliest objective; the one with a step, then the first, of several."""
    found = [printed for call in calls if (printed := _pattern(_template(call)))]
    return min(found, key=lambda one: (rank(one.names[0]), "(?P<step>" not in one.pattern), default=None)


def _template(call: ast.Call) -> str:
    name = getattr(call.func, "attr", None) or getattr(call.func, "id", "")
    if name not in _SAYS:
        return ""
    if name == "print":
        return " ".join(_text(node) for node in call.args)
    text = _text(call.args[0]) if call.args else ""
    return _filled(text) if len(call.args) > 1 else text  # log.info("acc %.4f", acc)


def _filled(text: str) -> str:
    return _PERCENT.sub(_MARK, text).replace("%%", "%")


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text.replace(_MARK, "")
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod()):
            return _filled(text)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
            return _BRACES.sub(_MARK, text)
        case ast.Call(func=ast.Name(id="str"), args=[_]):
            return _MARK
    return _MARK


def _pattern(template: str) -> Printed | None:
    """Only the part from the first named value to the last one counts, within the line that has most of them."""
    lines = [(line, _named(line)) for line in template.split("\n")]
    line, groups = max(lines, key=lambda one: len(one[1]), default=("", {}))
    names = [name for name in groups.values() if name != "step"]
    if not names:
        return None
    first = min(match.start() for match in groups)
    regex, position = "", first
    for match, name in groups.items():
        regex += _literal(line[position : match.end() - 1])
        regex += "" if regex.endswith(r"\s+") else r"\s*"  # a value may be padded
        regex += r"(?P<step>\d+)" if name == "step" else rf"(?P<{name}>[-+.\w]+)"
        position = match.end()
    if line[position : position + 1].isalnum() or line[position : position + 1] == ".":
        regex += re.escape(line[position])  # `0.91s`, or the end of a sentence: not a part of the number
    return Printed(sorted(names, key=rank), regex)


def _named(line: str) -> dict[re.Match[str], str]:
    """The values that a word names, in order; each name once."""
    found: dict[re.Match[str], str] = {}
    for match in _NAMED.finditer(line):
        name = re.sub(r"\W+", "_", match[1].lower())
        if name in _STEPS:
            name = "step"
        elif not direction(name):
            continue
        if name not in found.values():
            found[match] = name
    return found


def _literal(text: str) -> str:
    """Text that stands between values: any width of space, anything in place of a value that has no name."""
    parts: Sequence[str] = re.split(rf"(\s+|{_MARK})", text)
    return "".join(
        ".*?" if part == _MARK else r"\s+" if part.isspace() else re.escape(part) for part in parts if part
    )
