"""The example of docs/long-jobs.md runs as it stands there, and says what it found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs" / "long-jobs.md"


def test_the_example_runs(tmp_path):
    (source,) = re.findall(r"^```python\n(.*?)^```", _PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "example.py").write_text(source)
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"x" * number)
    for done in (3, 0):
        found = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert found.returncode == 0, found.stderr
        assert found.stdout.splitlines() == [f"{done} done, 0 bad, 0 left", "0.png 0", "1.png 1", "2.png 2"]
