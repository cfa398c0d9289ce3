"""Many images → masks in one format, in one folder, as a long job (`nerveseg.runs`).

    found = images.find("photos")
    ran = run(Job(["cat", "grass"], format="coco"), found, "masks")

Modules: `images` (which files), `job` (what is asked for, and all that decides the masks), `places` (what is in the way in the folder),
`worker` (one image in, its files and a line out; files are written behind the network's back), `run` (start, go on, shards), `finish`
(joined files and the record).

The folder at the end holds no times and no drafts: killed and gone on with it is the same, byte for byte, as one that nothing happened to.

- the masks, as their writer lays them out, at the images' own paths;
- ``batch.json``: labels, recipe, versions, digests, and which images could not be used; written last, so that it says "finished";
- ``.nerveseg/job``: the plan and a line an image; the journal while the job is at work; ``.nerveseg/IofN`` for a shard until all are done.
"""

from __future__ import annotations

from nerveseg.batch.images import Found, find
from nerveseg.batch.job import Job
from nerveseg.batch.run import Ran, run

__all__ = ["Found", "Job", "Ran", "find", "run"]
