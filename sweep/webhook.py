"""A POST of JSON, tried a few times. Nothing that it says holds the address or a header: both may be secrets."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from sweep import __version__
from sweep.config.rounds import Hook, fill

PAUSES = (0.0, 1.0, 4.0, 15.0)  # seconds before each try
ANSWER = 10.0  # seconds that the other side may take to answer
_LATER = (408, 425, 429)  # beside 5xx: these may go well another time


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Headers with secrets go where the file says, and nowhere else."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def post(hook: Hook, once: str, document: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[str, bool]:
    """What became of it, and whether it failed. once: the same for every try, for receivers that look at it."""
    try:
        address = fill(hook.webhook or "", environ)
        headers = {name: fill(text, environ) for name, text in hook.headers.items()}
    except KeyError as error:
        return f"there is no environment variable {error.args[0]}", True
    body = json.dumps({"text": sentence(document), **{k: v for k, v in document.items() if k != "trials"}})
    usual = {
        "Content-Type": "application/json",
        "User-Agent": f"sweep/{__version__}",
        "Idempotency-Key": once,
    }
    opener = urllib.request.build_opener(_NoRedirect)
    until = time.monotonic() + hook.timeout
    said = ""
    for pause in PAUSES:
        if time.monotonic() + pause >= until:
            break
        time.sleep(pause)
        try:
            request = urllib.request.Request(address, body.encode(), {**usual, **headers}, method="POST")
            with opener.open(request, timeout=min(ANSWER, until - time.monotonic())) as answer:
                return f"HTTP {answer.status}", False
        except urllib.error.HTTPError as error:
            said = f"HTTP {error.code}"
            error.close()
            if error.code < 500 and error.code not in _LATER:
                break
        except urllib.error.URLError as error:
            said = f"cannot be reached: {getattr(error.reason, 'strerror', None) or type(error.reason).__name__}"
        except OSError as error:
            said = f"does not answer: {error.strerror or type(error).__name__}"
        except Exception as error:  # http.client and urllib have many for an odd address, header or answer
            said = f"cannot be asked: {type(error).__name__}"
            break
    return f"the webhook failed: {said or 'no time was left'}", True


def sentence(document: Mapping[str, Any]) -> str:
    """How the sweep ended, in one line."""
    counts = ", ".join(f"{count} {state.lower()}" for state, count in document["counts"].items() if count)
    best = document["best"]
    value = f"; best is trial {best['number']} with {best['values'][0]}" if best else ""
    why = f" ({document['why']})" if document["why"] else ""
    return f"{document['id']} {document['state'].lower()}{why}: {counts}{value}"
