"""`python -m sweep.tracking [sweep folder] [--fd N]`: follows one sweep and brings MLflow up to date.

Without a folder it is told one over the descriptor, and makes itself ready until then.

What MLflow reads from the environment is set before it is imported: our own loop retries, so its own is off.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import warnings
from pathlib import Path

from sweep.rundir import SweepDir
from sweep.tracking.link import Link

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# MLflow works without these (as mlflow-skinny, its own smaller package, does) and imports them if they are there:
# for data sets and models, which we never hand it. They would be a quarter of the follower's start, and 85 MB.
UNUSED = ("pandas", "numpy", "pyarrow")
NICENESS = 10  # trials come first
TIMEOUT = "10"  # seconds a server may take for an answer, unless the user says otherwise


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.tracking", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="the sweep's folder")
    parser.add_argument("--fd", type=int, help="one end of a socket pair, the controller has the other")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds to begin later: earlier ones died")
    arguments = parser.parse_args()
    os.nice(NICENESS)
    time.sleep(arguments.wait)
    os.environ.update(SETTINGS)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", TIMEOUT)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_ACTIVE_MODEL_ID"):
        os.environ.pop(name, None)  # ours are always named
    logging.raiseExceptions = False  # a full disk takes no log lines either
    warnings.simplefilter("ignore")
    sys.modules.update(dict.fromkeys(UNUSED))  # type: ignore[arg-type]  # importing one of them fails

    from sweep.tracking.follower import Follower

    link = Link(arguments.fd)
    folder = arguments.folder
    if folder is None:
        message = link.first()
        if message is None:
            return 0  # nobody needs a follower after all
        folder = Path(message["folder"])
    directory = SweepDir(folder.absolute())
    with directory.follower_log.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.chdir(directory.path.parent.parent)  # MLflow's own relative paths, such as ./mlruns, mean the project
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s  %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    for name in ("mlflow", "alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("sweep").setLevel(logging.INFO)
    return Follower(directory, link).run()


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    os._exit(code)  # all is sent and saved; taking the interpreter apart would take another 0.3 s
