"""One command as a sweep: which keys it takes, and what is said of those that it does not."""

from __future__ import annotations

from typing import Any

import pytest

from sweep.errors import UsageError
from sweep.job import job


def test_a_job_is_named_after_its_script_and_nothing_in_its_words_is_filled_in() -> None:
    config = job(["python", "my train.py", "{x}"], {"priority": 3, "retry.times": 2, "env.WHO": "me"})
    assert (config.name, config.command) == ("my-train", ["python", "my train.py", "{{x}}"])
    assert (config.trials, config.priority, config.retry.times, config.env) == (1, 3, 2, {"WHO": "me"})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("trials", 3, "--set trials: a job has nothing to search"),
        ("space.x", 1, "--set space.x: a job has nothing to search"),
        ("trial_timeout", "soon", "trial_timeout: found the text 'soon'; wanted are seconds"),
        ("priorty", 3, "did you mean `priority`?"),
        ("priority", 300, "wanted is at most 100"),
        ("devices", "foo", "devices: found the text 'foo'"),
        ("name", "a/b", "such as `a-b`"),
    ],
)
def test_what_a_job_does_not_take_is_said_in_words(key: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        job(["true"], {key: value})
    assert said in str(caught.value)
    with pytest.raises(UsageError, match="no command"):
        job([], {})
