"""What is Ray's own: a cluster for the time of a job; the rest is in conformance/test_engines.py."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nerveseg import runs
from nerveseg.errors import MissingExtra, RunError
from nerveseg.runs import Plan

_HERE = Path(__file__).parent
_SCRIPT = """
import json, signal, sys
from pathlib import Path
from _errands import Errand
from nerveseg import runs

usual = signal.getsignal(signal.SIGTERM)
plan = runs.Plan(tuple(f"item {number}" for number in range(12)), {"seed": 0})
summary = runs.run(plan, Errand(Path(sys.argv[1]), pause=0.2), sys.argv[2], engine="ray", workers=2)
print(json.dumps({"done": summary.done, "skipped": summary.skipped, "kept": signal.getsignal(signal.SIGTERM) is usual}))
"""


def test_without_ray_the_command_that_installs_it_is_told(errands, tmp_path, monkeypatch):
    module = importlib.import_module("nerveseg.runs.engines.ray")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(module.importlib, "import_module", missing)
    monkeypatch.setattr(module.os, "environ", {})
    outcomes = module.execute(errands.Errand(tmp_path), ("a",), workers=1, prefetch=0, options=module.Options(), stop=lambda: False)
    with pytest.raises(MissingExtra, match=r"pip install 'nerveseg\[ray\]'"):
        next(outcomes)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_at_which_nobody_answers_is_told_at_once(address):
    module = importlib.import_module("nerveseg.runs.engines.ray")
    with pytest.raises(RunError, match=f"no Ray cluster at {address}"):
        module._check_there(address)
    module._check_there("auto")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_job_with_a_cluster_of_its_own_is_killed_and_resumed(errands, tmp_path):
    (tmp_path / "job.py").write_text(_SCRIPT)
    (tmp_path / "notes").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {**kept, "PYTHONPATH": str(_HERE), "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    command = [sys.executable, tmp_path / "job.py", tmp_path / "notes", tmp_path / "run"]
    journal = tmp_path / "run" / "journal.jsonl"

    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not (journal.exists() and journal.read_bytes().count(b"\n")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "results.jsonl").exists()

    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)  # and nothing else on stdout
    assert told["done"] + told["skipped"] == 12
    assert told["skipped"] >= 1
    assert told["kept"], "Ray's handlers are put away"
    runs.run(Plan(tuple(f"item {number}" for number in range(12)), {"seed": 0}), errands.Errand(tmp_path / "notes"), tmp_path / "alone")
    for name in ("results.jsonl", "run.json", "items.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
