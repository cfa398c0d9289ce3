"""A process that imports everything once and then forks a batch for every line it reads, so that many can be killed in little time.

A line is JSON: ``{"scores", "source", "out", "shard", "workers", "format", "engine", "pause"}``. It answers with the batch's process id,
and, once that process is gone, with how it ended.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback

from nerveseg.batch import Job, find, run
from nerveseg.segmenter import Segmenter

_SAVED = {"labels.name": "saved", "graph.name": "none", "walk.name": "none", "calibration.name": "none"}


def work(told):
    decode = Segmenter.decode

    def slow(self, *args, **options):
        time.sleep(told["pause"])
        return decode(self, *args, **options)

    Segmenter.decode = slow
    job = Job(
        ("cat", "dog", "grass"),
        recipe="mini",
        settings={**_SAVED, "labels.path": told["scores"]},
        offline=True,
        threads=1,
        format=told["format"],
    )
    run(
        job,
        find(told["source"]),
        told["out"],
        shard=tuple(told["shard"]),
        resume=True,
        workers=told["workers"],
        engine=told["engine"],
    )


def say(number):
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main():
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setsid()
            try:
                work(json.loads(line))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        say(child)
        _, status = os.waitpid(child, 0)
        say(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
