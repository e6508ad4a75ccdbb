"""What is done when a sweep has ended, and what it takes over from one before: on_finish, on_fail, from_best."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from sweep.config.parameters import Model, refuse
from sweep.config.scalars import Command, Count, Seconds, Text
from sweep.config.words import Problem, found, listed

PREVIOUS = "previous"
_ONE_OF = ("command", "webhook", "run")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
SECRET = re.compile(r"auth|token|key|secret|cookie|password", re.IGNORECASE)


class Hook(Model):
    """One thing to do: a command, a POST of JSON to a webhook, or another file to run.

    headers, webhook: `${NAME}` in them is replaced from the environment, at the time. run: a file, relative to the
    folder that `sweep run` is called in; rounds: how many sweeps such a chain may have. timeout: seconds.
    """

    command: Command | None = None
    webhook: Text | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    run: Text | None = None
    rounds: Count | None = None
    timeout: Seconds = 60.0

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"command": value} if isinstance(value, (str, list)) else value

    @model_validator(mode="after")
    def _one(self) -> Hook:
        given = [name for name in _ONE_OF if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"has {listed(given)} in one" if given else "says nothing to do"
            raise refuse(Problem(said, (), f"one of {listed(_ONE_OF)}, or a list with one in each"))
        for key, partner in (("headers", "webhook"), ("rounds", "run")):
            if getattr(self, key) and given != [partner]:
                raise refuse(Problem(f"belongs to a `{partner}`", (key,)))
        if self.webhook is not None and not re.match(r"https?://|\$\{", self.webhook):
            hint = "such as https://chat.example.org/hooks/1, or ${HOOK_URL} where the address is a secret"
            raise refuse(Problem(f"found {found(self.webhook)}; wanted is an address", ("webhook",), hint))
        open_secrets = [
            name for name, text in self.headers.items() if SECRET.search(name) and not _VARIABLE.search(text)
        ]
        if open_secrets:
            hint = "name an environment variable instead, such as `Bearer ${TOKEN}`"
            raise refuse(
                *(Problem("would hold a secret in the file", ("headers", one), hint) for one in open_secrets)
            )
        return self

    def variables(self) -> list[str]:
        """The environment variables that it names."""
        return [name for text in (self.webhook or "", *self.headers.values()) for name in _VARIABLE.findall(text)]


def fill(text: str, environ: Any) -> str:
    """`${NAME}` replaced by the variable. Raises KeyError for one that is not there."""
    return _VARIABLE.sub(lambda found: str(environ[found[1]]), text)


def _hooks(value: Any) -> Any:
    """A list of words is one command; a list with anything else in it is several things to do."""
    if value is None:
        return []
    several = isinstance(value, list) and not (value and all(isinstance(one, str) for one in value))
    return value if several else [value]


Hooks = Annotated[list[Hook], BeforeValidator(_hooks)]


class FromBest(Model):
    """Which trials of an earlier sweep come first here: the `top` ones of `sweep` (an id, a name, or `previous`).

    narrow: the share of the old width to which ranges shrink around them; None leaves the space as it is.
    """

    sweep: Text
    top: Count = 5
    narrow: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
