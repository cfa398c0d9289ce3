"""What every long job shares: a plan fixed before it starts, a journal, reading ahead, resuming, shards, and engines that do the work.

Nothing here knows what an item is. A job is a `Plan`, something that makes a `Worker`, and a folder:

- ``run.json``: what the results depend on, and what people want to know of the start; written before the first item;
- ``items.jsonl``: the names of all items, in order;
- ``journal.jsonl``: one line an item as it ends, with times;
- ``results.jsonl``: once no item is left, in the order of the plan, without times;
- ``run.lock``: while a process is at work.

Modules: `plan`, `worker` (what the work looks like), `prefetch` (one worker's row of items), `journal`, `results`, `lock`, `whole` (files
that appear whole), `run`, `merge` (shards into one folder), and `engines`.
"""

from __future__ import annotations

from nerveseg.runs import engines, journal, results
from nerveseg.runs.merge import merge
from nerveseg.runs.plan import Plan, read
from nerveseg.runs.run import Bad, Summary, run
from nerveseg.runs.worker import Make, Outcome, Record, Worker, WorkerDied

__all__ = [
    "Bad",
    "Make",
    "Outcome",
    "Plan",
    "Record",
    "Summary",
    "Worker",
    "WorkerDied",
    "engines",
    "journal",
    "merge",
    "read",
    "results",
    "run",
]
