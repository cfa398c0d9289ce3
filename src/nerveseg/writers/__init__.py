"""Results out. One file a format; the registry kind is ``writers``.

Every writer file holds

- ``suffix``: the ending that chooses it, with its dot; ``""`` for a collection, which only its name chooses;
- ``Options``: a frozen dataclass of knobs;
- ``holds(labels: int) -> bool``: whether the format can hold that many labels. More than that, or a name that the format cannot
  hold, raises OutputError before anything is written.

Nothing that is written holds a time: the same results give the same bytes. Files appear whole or not at all (`base.replacing`).

**Single** (png, overlay): one result, one file, and

- ``write(segmentation, path, options) -> tuple[Path, ...]``: the files written;
- optionally ``read(path) -> base.Reading``: ids and labels back from the file;
- optionally ``files(path, options) -> tuple[Path, ...]``: what ``write`` writes, where it is more than ``path``.

**Collection** (coco, panoptic, voc, cvat): many images, one folder; `base.is_collection` tells. It holds

- ``part(segmentation, folder, stem, options) -> dict``: writes the files that belong to this image alone below ``folder`` (which is
  there), and gives what the joined files need of it as JSON-able values. ``stem`` is the image's path in the collection without its
  ending, parted by ``/`` (`_collection.below` checks it and makes the folders).
  `_collection.begin` makes the dict: ``stem``, ``files`` (paths below ``folder``), ``shared`` (labels, recipe, versions: the same for
  all images of a job, so a journal may keep it once) and ``image`` (name, size, digest); a format adds its own.
- ``finish(parts, folder, options) -> tuple[Path, ...]``: writes the joined files, last of all ``run.json``, and gives their paths.
  Parts come once, in order, and are not kept (`_collection.Growing`). May be called again; with no parts it writes nothing.
- optionally ``read(folder) -> Iterator[tuple[str, base.Reading]]``: stem, and ids and labels, in the order of the parts.

``Segmentation.save(folder, format="coco")`` is a collection of one image; `save_all` writes many from Python.
"""

from nerveseg.writers._collection import save_all

__all__ = ["save_all"]
