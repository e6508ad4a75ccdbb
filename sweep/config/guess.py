"""An option of a script -> a first guess at its place in a space.yaml.

By its name, an option is a hyperparameter unless a word in it says otherwise (a path, a seed, a device, how long
to train, how much to print). By its default, a hyperparameter gets a range around it:

- Learning rates, weight decays and other small positive numbers matter by their factor: a tenth to ten times the
  default, on a logarithmic scale. The same for sizes (64 channels), from a quarter to four times.
- Shares (dropout, label smoothing) lie in 0 to 1 and are searched evenly.
- Of what is close to 1 (momentum, betas) the distance to 1 matters.

What has no default to start from, or none that is a size, stays a comment: the script knows best.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sweep.config.command import NAME, RESERVED
from sweep.config.prints import bag
from sweep.config.reading import MAX_NUMBER
from sweep.config.script import UNKNOWN, Option


class Place(Enum):
    SEARCH = "search"
    FIXED = "fixed"  # the same in every trial, and worth being seen
    LEFT = "left"  # at what the script itself says
    OPEN = "open"  # somebody has to fill it in


@dataclass(frozen=True)
class Guess:
    """value: what stands behind the name in `space`, for LEFT the default; None where there is nothing to say."""

    option: Option
    place: Place
    value: Any = None
    why: str = ""
    name: str = ""  # of the parameter, where it is not the option's

    @property
    def parameter(self) -> str:
        return self.name or self.option.name


_RATES = bag("lr eta wd l1 l2 reg regularization lambda eps epsilon penalty temperature tau")
_SHARES = bag(
    "drop dropout dropconnect droppath prob probability p smoothing mixup cutmix ratio fraction frac rate"
)
_NEAR_ONE = bag("momentum beta beta1 beta2 betas gamma rho ema decay")
_BUDGET = bag("epoch epochs step steps iter iters iteration iterations niter episodes timesteps")
_SEEDS = bag("seed seeds")
_NOT_A_BUDGET = bag("warmup decay accumulation accumulate accum grad milestone size per lr ahead")
_LEFT = {
    "a path, or the data's name": bag(
        "path paths dir directory folder file files filename root data dataset datasets input output out outdir "
        "logdir savedir checkpoint checkpoints ckpt pretrained weights url config cfg"
    ),
    "the machine's, not the model's": bag(
        "device devices gpu gpus cuda cpu npu xpu tpu worker workers nproc nprocs threads jobs rank local world "
        "nodes port host master dist distributed backend amp fp16 bf16 fp32 precision dtype pin prefetch compile "
        "jit"
    ),
    "only what it says and keeps": bag(
        "verbose verbosity quiet silent debug log logs logging loglevel print progress wandb tensorboard tb "
        "mlflow visualdl visualize plot show json csv dry profile profiler interval freq frequency every exp "
        "experiment run project entity user version notes tag tags id name save load resume overwrite force "
        "download cache deterministic benchmark"
    ),
    "the task, not the model": bag(
        "task split fold classes vocab eval evaluate evaluation val valid validation test mode"
    ),
}
_AMBIGUOUS = bag("mode name rank id run master split")  # only as a whole: --rank, but not --lora_rank
_TEXT_ONLY = "a path, or the data's name"  # numbers and flags of such a name are something else: input_size
_OUTPUT = re.compile(
    r"(out|output|save|log|logging|checkpoint|ckpt|result|results|work|run|exp|experiment)_?(dir|folder)"
    r"|(out|output)_?directory",
    re.IGNORECASE,
)
_USUAL_RATE = {"type": "float", "low": 1e-4, "high": 0.1, "log": True}


def guess(option: Option) -> Guess:
    """Where the option belongs, and what to write there."""
    parts = set(re.split(r"[^a-z0-9]+", option.name.lower()))
    if not NAME.fullmatch(option.name) or option.name in RESERVED:
        return Guess(option, Place.LEFT, why="its name cannot be one in a space.yaml")
    if option.odd:
        return _left(option, option.odd)
    fixed = _SEEDS & parts or (_BUDGET & parts and not _NOT_A_BUDGET & parts) or "random_state" in option.name
    if fixed and option.kind in ("int", "float") and not option.choices:
        return _fixed(option, "the same in every trial" if _SEEDS & parts else "how long a trial trains")
    for why, names in _LEFT.items():
        if (parts - _AMBIGUOUS | {option.name}) & names and (why != _TEXT_ONLY or option.kind == "text"):
            return _left(option, why)
    return _hyperparameter(option, parts)


def is_output_folder(option: Option) -> bool:
    """Whether trials would write over one another's files in it."""
    return option.kind == "text" and not option.odd and bool(_OUTPUT.fullmatch(option.name.replace("-", "_")))


def _fixed(option: Option, why: str) -> Guess:
    if option.default is None or option.default is UNKNOWN or isinstance(option.default, str):
        return _left(option, why)
    if isinstance(option.default, int) and abs(option.default) >= MAX_NUMBER:
        return _left(option, "its default has more than 64 bits")
    return Guess(option, Place.FIXED, option.default, why)


def _left(option: Option, why: str) -> Guess:
    if option.required:
        return Guess(option, Place.OPEN, {"type": "constant"}, f"fill in: the script requires it ({why})")
    return Guess(option, Place.LEFT, option.default, why)


def _hyperparameter(option: Option, parts: set[str]) -> Guess:
    if option.choices:
        return Guess(option, Place.SEARCH, option.choices, _default(option))
    match option.kind:
        case "store_true" | "store_false":
            return Guess(option, Place.SEARCH, [False, True], "true: with the flag")
        case "BooleanOptionalAction":
            return _toggle(option)
        case "truth":
            return _truth(option)
        case "float" | "int":
            return _number(option, parts)
    return _left(option, "its choices are not in plain sight: a list of them makes it a parameter")


def _toggle(option: Option) -> Guess:
    """A flag in two spellings: the one that changes the default is given or left out."""
    if option.default is not True:
        return Guess(option, Place.SEARCH, [False, True], "true: with the flag")
    return Guess(option, Place.SEARCH, [False, True], f"true: with --no-{option.name}", f"no-{option.name}")


def _truth(option: Option) -> Guess:
    """As text: how a truth is spelt is the script's own affair, and `true` alone would become `True`."""
    pairs = (("yes", "no"), ("y", "n"), ("on", "off"), ("true", "false"), ("True", "False"), ("1", "0"))
    pair = next((pair for pair in pairs if str(option.default) in pair), ("true", "false"))
    return Guess(option, Place.SEARCH, list(pair), _default(option))


def _number(option: Option, parts: set[str]) -> Guess:
    rate = bool(_RATES & parts) or {"learning", "rate"} <= parts or {"weight", "decay"} <= parts
    default = option.default
    if isinstance(default, str):
        try:
            default = float(default)  # argparse hands a default that is text to `type`
        except ValueError:
            default = UNKNOWN
    if not isinstance(default, (int, float)) or isinstance(default, bool) or not math.isfinite(default):
        if option.required and rate and option.kind == "float":
            return Guess(option, Place.SEARCH, _USUAL_RATE, "has no default: a usual range")
        if option.required:
            return Guess(option, Place.OPEN, {"type": option.kind}, "fill in `low` and `high`: it has no default")
        return _left(option, "it has no default to start from")
    if option.kind == "int":
        return _int(option, int(default), parts)
    return _float(option, float(default), parts, rate=rate)


def _float(option: Option, default: float, parts: set[str], *, rate: bool) -> Guess:
    why = _default(option)
    if rate and default == 0:
        kind = {"type": "float", "low": 1e-6, "high": 0.01, "log": True}
        return Guess(option, Place.SEARCH, kind, f"{why}, which has no place on a logarithmic scale")
    if _SHARES & parts and not rate and 0 <= default < 1:
        usual = 0.2 if "smoothing" in parts else 0.5
        top = usual if default <= usual / 2 else min(1.0, _round(2 * default))
        return Guess(option, Place.SEARCH, {"type": "float", "low": 0.0, "high": top}, why)
    if _NEAR_ONE & parts and 0.5 <= default < 1:
        low, high = (1 - _round(factor * (1 - default)) for factor in (5, 0.1))
        kind = {"type": "float", "low": max(0.0, _round(low, 6)), "high": _round(high, 6)}
        return Guess(option, Place.SEARCH, kind, why)
    if 0 < default < 1e100 and (rate or default < 0.1):
        kind = {"type": "float", "low": _round(default / 10), "high": _round(default * 10), "log": True}
        return Guess(option, Place.SEARCH, kind, why)
    if default == 0:
        return _left(option, "0 says nothing of its scale, and may mean off")
    if abs(default) > 1e100:
        return _left(option, "its default is a sign rather than a size")
    low, high = sorted((_round(default / 2), _round(default * 2)))
    return Guess(option, Place.SEARCH, {"type": "float", "low": low, "high": high}, why)


def _int(option: Option, default: int, parts: set[str]) -> Guess:
    why = _default(option)
    if default <= 0 or default >= 2**50:
        return _left(option, "its default is a sign rather than a size")
    if "batch" in parts:
        return Guess(option, Place.SEARCH, [max(1, default // 2), default, 2 * default][default == 1 :], why)
    if default >= 16:
        kind = {"type": "int", "low": default // 4, "high": default * 4, "log": True}
        return Guess(option, Place.SEARCH, kind, why)
    return Guess(
        option, Place.SEARCH, {"type": "int", "low": max(1, default // 2), "high": max(3, 2 * default)}, why
    )


def _default(option: Option) -> str:
    known = option.default is not None and option.default is not UNKNOWN
    return f"default {option.default}" if known else ""


def _round(value: float, digits: int = 2) -> float:
    return float(f"{value:.{digits}g}")
