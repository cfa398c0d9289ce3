"""Results out. One file a format; the registry kind is ``writers``.

A writer file holds

- ``suffix``: the ending that chooses it, with its dot;
- ``Options``: a frozen dataclass of knobs;
- ``holds(labels: int) -> bool``: whether the format can hold that many labels;
- ``write(segmentation, path, options) -> tuple[Path, ...]``: the files written; whole or not at all (`base.replacing`), no times in
  them, the same bytes for the same result;
- optionally ``read(path) -> base.Reading``: ids and labels back from the file.
"""
