"""A template and a configuration -> the words that a trial is started with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.config.command import check, placeholders, render, script_of, split
from sweep.config.model import Categorical, Constant, Float, Int, Parameter
from sweep.errors import ConfigError

SPACE: dict[str, Parameter] = {
    "lr": Float(low=1e-4, high=0.1, log=True),
    "width": Int(low=1, high=128),
    "optimizer": Categorical(choices=["sgd", "adam"]),
    "momentum": Float(low=0.0, high=0.99, when={"optimizer": ["sgd"]}),
    "nesterov": Categorical(choices=[True, False], when={"optimizer": ["sgd"]}),
    "epochs": Constant(value=20),
}
SGD = {"lr": 0.001, "width": 16, "optimizer": "sgd", "momentum": 0.9, "nesterov": True, "epochs": 20}
ADAM = {"lr": 1e-05, "width": 16, "optimizer": "adam", "epochs": 20}
EXTRA = {"trial": 3, "attempt": 1, "attempt_dir": "/s/x-1/trials/3/1", "sweep": "x-1", "params_file": "/p.json"}


def filled(template: str, params: dict[str, Any]) -> list[str]:
    return render(split(template), params, EXTRA)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("python t.py --lr {lr}", ["python", "t.py", "--lr", "0.001"]),
        ("t --lr={lr:.1e} -w {width:04d}", ["t", "--lr=1.0e-03", "-w", "0016"]),
        ("t {optimizer}-{width}", ["t", "sgd-16"]),
        ("t 'a b' \"c'd\" e\\ f ''", ["t", "a b", "c'd", "e f", ""]),
        ("t '{{\"lr\": {lr}}}'", ["t", '{"lr": 0.001}']),
        ("t {{lr}} {{{lr}}}", ["t", "{lr}", "{0.001}"]),
        ("t run-{trial}-{attempt} {sweep}", ["t", "run-3-1", "x-1"]),
        ("t {params_file} {attempt_dir}/m.pt", ["t", "/p.json", "/s/x-1/trials/3/1/m.pt"]),
        ("t --nesterov {nesterov}", ["t", "--nesterov", "True"]),
        ("t # {lr}", ["t", "#", "0.001"]),
        ("t $HOME `x` *.py", ["t", "$HOME", "`x`", "*.py"]),
        ("a\n  b", ["a", "b"]),
        (
            "t {args}",
            [
                "t",
                "--lr=0.001",
                "--width=16",
                "--optimizer=sgd",
                "--momentum=0.9",
                "--nesterov=True",
                "--epochs=20",
            ],
        ),
        (
            "t {flags} x",
            [
                "t",
                "--lr=0.001",
                "--width=16",
                "--optimizer=sgd",
                "--momentum=0.9",
                "--nesterov",
                "--epochs=20",
                "x",
            ],
        ),
    ],
)
def test_filling_in(template: str, words: list[str]) -> None:
    assert check(split(template), SPACE)[0] == []
    assert filled(template, SGD) == words


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("t --lr {lr} --momentum {momentum} x", ["t", "--lr", "1e-05", "x"]),
        ("t -m {momentum:.2f}", ["t"]),
        ("t --momentum={momentum} x", ["t", "x"]),
        ("t momentum={momentum}", ["t"]),
        ("t --quiet --momentum={momentum}", ["t", "--quiet"]),
        ("t x {momentum} y", ["t", "x", "y"]),
        ("t -1 {momentum}", ["t", "-1"]),
        ("t --lr={lr} {momentum}", ["t", "--lr=1e-05"]),
        ("t --opt {optimizer}:{momentum}", ["t", "--opt"]),
        ("t --a {momentum} --b {nesterov}", ["t"]),
        ("{momentum} x", ["x"]),
        ("t {args}", ["t", "--lr=1e-05", "--width=16", "--optimizer=adam", "--epochs=20"]),
    ],
)
def test_an_inactive_parameter_takes_its_argument_along(template: str, words: list[str]) -> None:
    assert filled(template, ADAM) == words


def test_a_false_flag_is_left_out_and_null_is_not() -> None:
    assert render(["t", "{flags}"], {"a": False, "b": None, "c": 0, "d": True}, {}) == [
        "t",
        "--b=None",
        "--c=0",
        "--d",
    ]


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_value_arrives_whole(value: str, other: str) -> None:
    argv = ["t", "{a}", "--b={b}", "{a}/{b}", "{{{a}}}"]
    assert render(argv, {"a": value, "b": other}, {}) == [
        "t",
        value,
        f"--b={other}",
        f"{value}/{other}",
        f"{{{value}}}",
    ]


@settings(deadline=None)
@given(st.one_of(st.floats(allow_nan=False), st.integers(), st.booleans()))
def test_python_reads_back_what_is_written(value: object) -> None:
    [word] = render(["{x}"], {"x": value}, {})
    read = {"True": True, "False": False}.get(word)
    assert (type(value)(word) if read is None else read) == value


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1))
def test_literal_words_survive_doubled_braces(words: list[str]) -> None:
    argv = [word.replace("{", "{{").replace("}", "}}") for word in words]
    assert check(argv, {})[0] == []
    assert render(argv, {}, {}) == words


def test_placeholders() -> None:
    assert placeholders(split("t {lr:.3g} --x={width}{trial} {{no}} {args}")) == {"lr", "width", "trial", "args"}


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("t {rl}", "did you mean `lr`?"),
        ("t {Width}", "did you mean `width`?"),
        ("t {trail}", "did you mean `trial`?"),
        ("t {nothing_like_it}", "allowed: `lr`"),
        ("t {", "'{' in '{' is no placeholder"),
        ("t lr}", "'}' in 'lr}'"),
        ("t {}", "'{}' in '{}'"),
        ("t {0}", "'0' in '{0}'"),
        ("t '{\"lr\": 1}'", "`{{` and `}}` for braces"),
        ("t {lr!r}", "'lr!r'"),
        ("t --x={args}", "`{args}` has to be a word of its own"),
        ("t {flags:x}", "`{flags}` has to be a word of its own"),
        ("t {optimizer:.3f}", "cannot format 'sgd'"),
        ("t {width:.1q}", "cannot format 1"),
        ("t {lr:d}", "cannot format 0.0001"),
        ("t {sweep:d}", "cannot format"),
        ("t {lr:1000000000}", "asks for a width beyond 999"),
    ],
)
def test_templates_that_are_refused(template: str, said: str) -> None:
    errors, _ = check(split(template), SPACE)
    assert len(errors) == 1
    assert said in errors[0]


def test_every_mistake_of_a_template_is_told() -> None:
    errors, warnings = check(split("t {a} {b"), SPACE)
    assert (len(errors), warnings) == (2, [])


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("t --lr {lr} {width} {optimizer} {momentum} {nesterov}", "`epochs` is not in the command"),
        ("t {lr}", "sweep.current_trial().params"),
        ("t {args} {optimizer}-{momentum}", "is left out whenever one of its parameters is inactive"),
        ("t {args} > out.txt", "`>` is handed to the program as it is"),
    ],
)
def test_templates_that_are_odd(template: str, said: str) -> None:
    errors, warnings = check(split(template), SPACE)
    assert (errors, len(warnings)) == ([], 1)
    assert said in warnings[0]


@pytest.mark.parametrize("template", ["t {args}", "t {flags}", "t {params_file}", "t {args} {momentum}{nesterov}"])
def test_templates_that_hand_everything_over(template: str) -> None:
    assert check(split(template), SPACE) == ([], [])


@pytest.mark.parametrize("template", ["t 'x", 't "x y', "t x\\", "", "  \n"])
def test_templates_that_do_not_split(template: str) -> None:
    with pytest.raises(ConfigError):
        split(template)


def test_an_unclosed_quote_is_shown() -> None:
    with pytest.raises(ConfigError, match=r"a quote is never closed: the ' in '--x=a b'"):
        split("t --x='a b")


@pytest.mark.parametrize(
    ("command", "script"),
    [
        ("python train.py --lr {lr}", "train.py"),
        ("python3.11 -u -W ignore -X dev a/b.py x.py", "a/b.py"),
        ("/opt/venv/bin/python -O t.py", "t.py"),
        ("./train --x", "./train"),
        ("bin/train", "bin/train"),
        ("python -m pkg.train", None),
        ("python -c 'print(1)' t.py", None),
        ("python {script}", None),
        ("python", None),
        ("torchrun t.py", None),
        ("{program} t.py", None),
        ("pythonista t.py", None),
    ],
)
def test_script_of(command: str, script: str | None) -> None:
    assert script_of(split(command)) == script
