"""`sweep metrics` beside real sweeps: it tells what the journal tells, whoever dies; and a real Prometheus."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import Project, wait_for
from mlflow_kit import free_port
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

MONITORING = Path(__file__).parents[2] / "examples/monitoring"
PROMETHEUS = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus (Debian: apt install prometheus)")
TRAIN = """
    import os, time, sweep
    trial = sweep.current_trial()
    for step in range(5):
        trial.report(step, acc=trial.params["x"] + step)
    while os.path.exists("hold"):
        time.sleep(0.02)
"""
Key = tuple[str, frozenset[tuple[str, str]]]


class Scrape(dict[Key, float]):
    """(name, labels) -> value. helps: every name, whether or not it has a series now."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.helps: set[str] = set()
        self.counters: set[Key] = set()
        for family in text_string_to_metric_families(text):
            self.helps |= {family.name + end for end in ("", "_total", "_bucket", "_count", "_sum")}
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self, f"a series is there twice: {key}"
                self[key] = sample.value
                if family.type in ("counter", "histogram"):
                    self.counters.add(key)

    def one(self, name: str, /, **labels: str) -> float | None:
        """The one series with these labels, and maybe others."""
        found = [v for (n, have), v in self.items() if n == name and have >= labels.items()]
        assert len(found) < 2, f"{name} {labels}: {found}"
        return found[0] if found else None


class Exporter:
    """Every scrape is held against the one before: no counter goes back, and none that was there is gone."""

    def __init__(self, project: Project, env: dict[str, str] | None = None) -> None:
        self.process = project.start("metrics", "--port", "0", env=env)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[1]
        self.last = Scrape("")

    def scrape(self) -> Scrape:
        with urllib.request.urlopen(self.url, timeout=30) as answer:
            found = Scrape(answer.read().decode())
        back = {key for key in self.last.counters if found.get(key, -1.0) < self.last[key]}
        assert not back
        self.last = found
        return found

    def wait_for(self, name: str, value: float, **labels: str) -> Scrape:
        def seen() -> Scrape | None:
            found = self.scrape()
            return found if found.one(name, **labels) == value else None

        return wait_for(seen, f"{name} {labels} to be {value}")  # type: ignore[no-any-return]

    def end(self, project: Project) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert project.end(self.process).code == 0


@pytest.fixture
def exporter(project: Project) -> Iterator[Exporter]:
    project.write("train.py", TRAIN)
    exporter = Exporter(project)
    yield exporter
    exporter.end(project)


def test_it_follows_a_sweep_through_kill_and_resume(project: Project, exporter: Exporter) -> None:
    assert exporter.scrape().one("sweep_unreadable") == 0, "no sweep yet, and no folder for one"
    hold = project.write("hold", "")
    project.space(trials=4, devices="cpu:2")
    one = project.start("run", "space.yaml", "--json")
    seen = exporter.wait_for("sweep_reports_total", 10, sweep="s-1")
    assert seen.one("sweep_controller_up", sweep="s-1") == 1
    assert seen.one("sweep_trials", sweep="s-1", state="RUNNING") == 2
    assert seen.one("sweep_trial_step", sweep="s-1", trial="1") == 4
    silence = exporter.scrape().one("sweep_trial_silence_seconds", sweep="s-1", trial="0")
    assert silence is not None and 0 < silence < 60
    assert seen.one("sweep_device_slots", device="cpu-1", state="held") == 1
    wait_for(lambda: exporter.scrape().one("sweep_trial_memory_bytes", sweep="s-1", trial="0"), "a measurement")
    turns = exporter.scrape().one("sweep_controller_turn_seconds_count", sweep="s-1")
    assert turns is not None and turns > 0

    one.kill()
    one.wait()
    project.started.remove(one)
    gone = exporter.wait_for("sweep_state", 1, sweep="s-1", state="INTERRUPTED")
    assert gone.one("sweep_controller_up", sweep="s-1") == 0
    assert gone.one("sweep_trials", sweep="s-1", state="RUNNING") == 2, "they train on"

    hold.unlink()
    assert project.sweep("resume", "--json").code == 0
    done = exporter.wait_for("sweep_state", 1, sweep="s-1", state="FINISHED")
    assert done.one("sweep_controller_starts_total", sweep="s-1") == 2
    assert told(done) == in_journal(project)
    best = max(one["metrics"]["acc"] for one in project.events("Reported"))
    assert done.one("sweep_best_value", sweep="s-1", metric="acc") == best
    assert not [key for key in done if key[0].startswith("sweep_trial_")], "no series for trials that have ended"

    assert project.sweep("resume", "--trials", "5", "--json").code == 0  # what it had let go is read anew
    assert told(exporter.wait_for("sweep_trials", 5, sweep="s-1", state="COMPLETE")) == in_journal(project)
    once = Scrape(project.sweep("metrics", "--once").out)
    assert {key: once[key] for key in exporter.last.counters} == {
        key: exporter.last[key] for key in exporter.last.counters
    }


def told(scrape: Scrape) -> tuple[float | None, ...]:
    """events, reports, completed attempts, slot seconds."""
    return (
        scrape.one("sweep_journal_events_total"),
        scrape.one("sweep_reports_total"),
        scrape.one("sweep_attempts_total", outcome="COMPLETED"),
        scrape.one("sweep_journal_bytes"),
    )


def in_journal(project: Project) -> tuple[float | None, ...]:
    kinds = Counter(one["event"] for one in project.events())
    size = project.directory().journal.stat().st_size
    return sum(kinds.values()), kinds["Reported"], kinds["AttemptEnded"], size


def test_a_damaged_journal_is_counted_and_hides_no_other(project: Project, exporter: Exporter) -> None:
    project.run(trials=1)
    project.run(trials=1)
    exporter.wait_for("sweep_state", 1, sweep="s-1", state="FINISHED")
    exporter.scrape()  # nothing is new: from here on it looks at the file alone
    journal = project.directory().journal
    whole = journal.read_bytes()
    journal.write_bytes(b"{}\n" + whole)
    exporter.last = Scrape("")  # its counters are gone with it
    hurt = exporter.wait_for("sweep_unreadable", 1)
    assert hurt.one("sweep_controller_up", sweep="s-1") is None
    assert hurt.one("sweep_trials", sweep="s-2", state="COMPLETE") == 1
    journal.write_bytes(whole)
    assert exporter.wait_for("sweep_unreadable", 0).one("sweep_trials", sweep="s-1", state="COMPLETE") == 1
    shutil.rmtree(project.directory().path)
    exporter.last = Scrape("")
    assert exporter.scrape().one("sweep_controller_up", sweep="s-1") is None


def test_a_port_that_is_taken(project: Project, exporter: Exporter) -> None:
    port = urllib.parse.urlsplit(exporter.url).port
    done = project.sweep("metrics", "--port", str(port))
    assert done.code == 2 and f"--port {(port or 0) + 1}" in done.err


def test_mlflow_and_gpus(project: Project, fake_nvml: Any) -> None:
    project.write("train.py", TRAIN)
    fake_nvml.write("gpu uuid=GPU-1 name=Fake_H100 total=1000 used=4 util=75")
    project.space(trials=1, mlflow=f"http://127.0.0.1:{free_port()}")
    assert project.sweep("run", "space.yaml", "--json", env=fake_nvml.env).code == 0
    try:
        found = Scrape(project.sweep("metrics", "--once", env=fake_nvml.env).out)
        lag, outage = (found.one(f"sweep_mlflow_{name}") for name in ("lag_events", "outage_seconds"))
        assert lag == len(project.events()) and outage is not None and outage > 0
        assert found.one("sweep_mlflow_follower_up") == 1
        assert found.one("sweep_device_utilisation_ratio", device="GPU-1", name="Fake H100") == 0.75
        assert found.one("sweep_device_memory_total_bytes", device="GPU-1") == 1000 << 20
    finally:
        os.kill(json.loads(project.directory().mlflow.read_text())["pid"], signal.SIGKILL)


# ---- the files of examples/monitoring


def expressions() -> list[str]:
    """PromQL of the dashboard and of the alerts, as Grafana would send it."""
    panels = json.loads((MONITORING / "grafana/dashboard.json").read_text())["panels"]
    asked = [
        target["expr"]
        for panel in panels
        for target in panel["targets"]
        if target["datasource"]["type"] == "prometheus"
    ]
    rules = YAML(typ="safe").load(MONITORING / "alerts.yml")["groups"][0]["rules"]
    found = [*asked, *(rule["expr"] for rule in rules)]
    return [one.replace("$sweep", ".*").replace("$__rate_interval", "1m") for one in found]


def test_the_dashboard_and_the_alerts_ask_for_what_there_is(project: Project) -> None:
    helps = Scrape(project.sweep("metrics", "--once").out).helps
    asked = {name for one in expressions() for name in re.findall(r"\bsweep_\w+", one)}
    assert len(asked) > 15 and asked <= helps, asked - helps


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads((MONITORING / "grafana/dashboard.json").read_text())
    sources = YAML(typ="safe").load(MONITORING / "grafana/datasources.yml")["datasources"]
    known = {(one["type"], one["uid"]) for one in sources}
    panels = dashboard["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, f"{panel['title']} lies over another"
        taken |= cells
        for one in (panel, *panel["targets"]):
            assert (one["datasource"]["type"], one["datasource"]["uid"]) in known
    [variable] = dashboard["templating"]["list"]
    assert variable["name"] == "sweep" and (variable["datasource"]["type"], "prometheus") in known


def test_what_compose_mounts_is_there() -> None:
    services = YAML(typ="safe").load(MONITORING / "compose.yml")["services"]
    mounted = [one.split(":")[0] for service in services.values() for one in service["volumes"]]
    files = [one for one in mounted if one.startswith("./")]
    assert len(files) > 5 and all((MONITORING / one).is_file() for one in files)
    for name, flags in (("prometheus", "web.listen-address"), ("alloy", "http.listen-addr")):
        assert any(f"{flags}=127.0.0.1:" in word for word in services[name]["command"])
    loki = YAML(typ="safe").load(MONITORING / "loki.yml")["server"]
    assert loki["http_listen_address"] == loki["grpc_listen_address"] == "127.0.0.1"


# ---- Prometheus itself


@pytest.fixture
def prometheus(project: Project, exporter: Exporter, tmp_path: Path) -> Iterator[str]:
    """The address of one that has the example's configuration, but for the port and a shorter interval."""
    text = (MONITORING / "prometheus.yml").read_text()
    assert text.count("127.0.0.1:9500") == 1 and text.count("15s") == 2
    place = urllib.parse.urlsplit(exporter.url).netloc
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("127.0.0.1:9500", place).replace("15s", "300ms"))
    shutil.copy(MONITORING / "alerts.yml", tmp_path)
    port = free_port()
    words = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    with (tmp_path / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(
            [str(PROMETHEUS), *words, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait()


def ask(prometheus: str, query: str) -> list[dict[str, Any]]:
    """The samples; nothing while it does not answer yet. An expression that it does not take is an error."""
    url = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return list(json.load(answer)["data"]["result"])
    except urllib.error.HTTPError as error:
        if error.code == 503:  # it starts
            return []
        raise AssertionError(f"{query}: {error.read().decode()}") from None
    except OSError:
        return []


@needs_prometheus
def test_a_real_prometheus_sees_the_sweep_lose_its_controller_and_go_on(
    project: Project, exporter: Exporter, prometheus: str
) -> None:
    hold = project.write("hold", "")
    project.space(trials=3, devices="cpu:2")
    one = project.start("run", "space.yaml", "--json")
    up = 'sweep_controller_up{sweep="s-1"}'
    running = 'sweep_trials{sweep="s-1",state="RUNNING"} == 2'
    project.wait_for(lambda: ask(prometheus, f"{up} == 1") and ask(prometheus, running), "Prometheus to see it")
    one.kill()
    one.wait()
    project.started.remove(one)
    wait_for(lambda: ask(prometheus, f"{up} == 0"), "Prometheus to see that its controller is gone")
    wait_for(lambda: ask(prometheus, 'ALERTS{alertname="SweepWithoutController"}'), "an alert")
    hold.unlink()
    assert project.sweep("resume", "--json").code == 0
    wait_for(lambda: ask(prometheus, 'sweep_state{sweep="s-1",state="FINISHED"} == 1'), "the end")
    assert ask(prometheus, 'min_over_time(up{job="sweep"}[10m])')[0]["value"][1] == "1", "each scrape was answered"
    for name in {name for name, _ in exporter.scrape().counters}:
        assert {one["value"][1] for one in ask(prometheus, f"resets({name}[10m])")} == {"0"}, name
    assert ask(prometheus, "sweep_reports_total")[0]["value"][1] == "15"
    for expression in expressions():
        ask(prometheus, expression)


# ---- logs


def test_logs_as_json_lines(project: Project) -> None:
    project.write("train.py", TRAIN)
    project.space(trials=2)
    done = project.sweep("run", "-d", "space.yaml", "--json", env={"SWEEP_LOG": "json"})
    assert done.code == 0, done.err
    wait_for(lambda: project.sweep("status", "--json").json["state"] == "FINISHED", "its end")
    lines = [json.loads(line) for line in project.log().splitlines()]
    assert {line["sweep"] for line in lines} == {"s-1"}
    assert all({"at", "level", "logger", "message"} <= line.keys() for line in lines)
    ends = [
        (line["trial"], line["state"], line["outcome"]) for line in lines if line.get("event") == "AttemptEnded"
    ]
    assert [line["message"][:12] for line in lines if line.get("event") == "end"] == ["s-1 finished"]
    assert sorted(ends) == [(0, "COMPLETE", "COMPLETED"), (1, "COMPLETE", "COMPLETED")]
    wrong = project.sweep("run", "-d", "space.yaml", env={"SWEEP_LOG": "xml"})
    assert wrong.code == 2 and "SWEEP_LOG=json" in wrong.err
