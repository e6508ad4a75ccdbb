"""`sweep devices heal`: brings devices back that are out of service."""

from __future__ import annotations

import json
import os

from sweep.errors import UsageError
from sweep.slots.survey import Standing, Survey


def heal_devices(device: str | None, *, as_json: bool) -> None:
    """device: its number or the beginning of its UUID; None is all. Raises UsageError for one that is not."""
    survey = Survey(os.environ)
    try:
        standings = survey.look()
        chosen = standings if device is None else _named(device, standings)
        healed = [one for one in chosen if one.health.word == "failed"]
        for one in healed:
            survey.faults.heal(one.device.slot, one.reading.fault)
    finally:
        survey.close()
    if as_json:
        print(json.dumps({"healed": [one.device.id for one in healed]}))
    for one in () if as_json else healed:
        print(f"{one.device.id} ({one.device.name}) is in service again; it was {one.health.why}")
    if not healed and not as_json:
        print("nothing to heal: no device is out of service" if device is None else f"{device} is in service")


def _named(word: str, standings: list[Standing]) -> list[Standing]:
    found = [
        one
        for one in standings
        if (one.device.index == int(word) and one.device.kind != "cpu" if word.isdecimal() else False)
        or one.device.id.lower().startswith(word.lower())
        or one.device.slot == word
    ]
    if not found:
        raise UsageError(f"{word}: no such device", hint="`sweep devices` lists them")
    return found
