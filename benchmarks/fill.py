"""Put a measured table where it belongs: between ``<!-- NAME -->`` and ``<!-- /NAME -->`` in every page that has the marks.

    nerveseg synthetic score -o out && python benchmarks/fill.py world-score out/score.md
    python benchmarks/walk.py -o out/walk.md && python benchmarks/fill.py walk-speed out/walk.md

Tables on the project's pages come from such files and from nowhere else.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Fill one name from one file."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    name, table = sys.argv[1], Path(sys.argv[2]).read_text("utf-8").strip()
    pages = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if f"<!-- {name} -->" in page.read_text("utf-8")]
    if not pages:
        sys.exit(f"Got the name {name!r}. Accepted is one between <!-- {name} --> and <!-- /{name} --> in a page. Put these there first.")
    for page in pages:
        page.write_text(filled(page.read_text("utf-8"), name, table), "utf-8")
        print(page.relative_to(ROOT))


def filled(text: str, name: str, table: str) -> str:
    """Replace what stands between the marks."""
    before, rest = text.split(f"<!-- {name} -->", 1)
    after = rest.split(f"<!-- /{name} -->", 1)[1]
    return f"{before}<!-- {name} -->\n{table}\n<!-- /{name} -->{after}"


if __name__ == "__main__":
    main()
