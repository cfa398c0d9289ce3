from __future__ import annotations

import contextlib
import dataclasses
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg import registry
from nerveseg.errors import ImageError, OutputError
from nerveseg.image import load_image
from nerveseg.segmentation import Segmentation
from nerveseg.words import Label
from nerveseg.writers import save_all
from nerveseg.writers.base import is_collection

NAMES = ("cat", "猫; кот", 'quote " and \\', "naïve 🐈", "a/b", " ")


_ALL = {name: registry.load("writers", name) for name in registry.names("writers")}
_MANY = sorted(name for name in _ALL if is_collection(_ALL[name]))
_ONE = sorted(set(_ALL) - set(_MANY))
TAME = ("cat", "naïve 🐈", "猫", "a/b", "x, y", 'quote " and \\')  # what a collection's lists of names hold too


@pytest.fixture(params=_ONE)
def stage(request):
    return _ALL[request.param]


@pytest.fixture(params=_MANY)
def many(request):
    return _ALL[request.param]


def result(ids, names=NAMES, *, background=None, name=None):
    ids = torch.as_tensor(np.asarray(ids, dtype=np.int64))
    colours = np.random.default_rng(0).integers(0, 256, (*ids.shape, 3), dtype=np.uint8)
    image = load_image(Image.fromarray(colours), name=name)
    labels = tuple(Label(name, (name,)) for name in names)
    return Segmentation(ids, torch.full((len(names), 1, 1), 1 / max(len(names), 1)), labels, image, background=background)


def checkers():
    """One-pixel parts, a hole, and pixels that are ignored."""
    ids = np.indices((20, 30)).sum(0) % 3
    ids[5:15, 5:15] = 4
    ids[8:12, 8:12] = 0
    ids[0, :7] = 255
    return ids


def write(stage, made, path):
    return stage.write(made, path, stage.Options())


def test_the_registry_lists_the_writers():
    assert {"png", "overlay", "scores", "geotiff"} <= set(_ONE)
    assert {"coco", "cvat", "labelstudio", "panoptic", "voc", "yolo"} <= set(_MANY)


@pytest.mark.parametrize("name", sorted(_ALL))
def test_every_writer_declares_itself(name):
    stage = _ALL[name]
    assert stage.suffix == "" if name in _MANY else stage.suffix.startswith(".")
    assert stage.holds(1)
    registry.check(stage.Options())
    assert all(field.metadata["doc"] for field in dataclasses.fields(stage.Options))


def test_endings_tell_writers_apart():
    endings = [_ALL[name].suffix for name in _ONE]
    assert len(set(endings)) == len(endings)


@pytest.mark.parametrize("name", ["a", "名前 ü", "a.b", "-x"])
def test_ids_and_names_come_back(stage, tmp_path, name):
    made = result(checkers())
    files = write(stage, made, tmp_path / (name + stage.suffix))
    assert all(file.is_file() for file in files)
    assert sorted(file.name for file in files) == sorted(file.name for file in tmp_path.iterdir())
    if stage.read is not None:
        found = stage.read(files[0])
        np.testing.assert_array_equal(found.ids, made.segmentation.numpy())
        assert found.labels == NAMES


@pytest.mark.parametrize("ids", [np.full((2, 4), 255), np.full((2, 4), 5), [[0]]])
def test_maps_with_no_or_one_label_used(stage, tmp_path, ids):
    made = result(ids)
    files = write(stage, made, tmp_path / f"a{stage.suffix}")
    if stage.read is not None:
        np.testing.assert_array_equal(stage.read(files[0]).ids, made.segmentation.numpy())


@pytest.mark.parametrize("name", sorted(_ALL))
def test_no_label_at_all_comes_back_or_is_refused(name, tmp_path):
    made = result(np.full((3, 4), 255), ())
    writer = _ALL[name]
    if not writer.holds(0):
        with pytest.raises(OutputError, match="Got no label"):
            write(writer, made, tmp_path / f"a{writer.suffix}")
        assert contents(tmp_path) == {}
        return
    if name in _MANY:
        collect(writer, [("a", made)], tmp_path)
        ((_, found),) = writer.read(tmp_path)
    else:
        found = writer.read(write(writer, made, tmp_path / f"a{writer.suffix}")[0])
    np.testing.assert_array_equal(found.ids, made.segmentation.numpy())
    assert found.labels == ()


@pytest.mark.parametrize("name", sorted(name for name in _ALL if not _ALL[name].holds(65536)))
def test_more_labels_than_ids_are_refused(name, tmp_path):
    writer, made = _ALL[name], result(np.zeros((2, 2)), tuple(map(str, range(65536))))
    with pytest.raises(OutputError, match="65536"):
        collect(writer, [("a", made)], tmp_path / "out") if name in _MANY else write(writer, made, tmp_path / "a")
    assert contents(tmp_path) == {}


def test_three_hundred_labels_or_a_clear_no(stage, tmp_path):
    names = tuple(f"thing {number}" for number in range(300))
    made = result(np.arange(300).reshape(15, 20), names)
    if not stage.holds(300):
        with pytest.raises(OutputError, match="300"):
            write(stage, made, tmp_path / f"a{stage.suffix}")
        return
    files = write(stage, made, tmp_path / f"a{stage.suffix}")
    if stage.read is not None:
        found = stage.read(files[0])
        np.testing.assert_array_equal(found.ids, made.segmentation.numpy())
        assert found.labels == names


@pytest.mark.parametrize("name", ["<b>x</b>", "a\nb", "\u202e", "\u2028", "\x7f", " a ", "a,b;c", "x" * 5000])
def test_odd_names_come_back_or_are_refused(stage, tmp_path, name):
    """The overlay's legend has no markup to break: a name is drawn, letter by letter."""
    made, refused = result([[0, 1], [255, 1]], (name, "other")), None
    try:
        files = write(stage, made, tmp_path / f"a{stage.suffix}")
    except OutputError as error:
        refused = str(error)
    if refused is not None:
        assert repr(name) in refused
        return
    if stage.read is not None:
        assert stage.read(files[0]).labels == (name, "other")


def test_an_older_file_is_replaced(stage, tmp_path):
    path = tmp_path / f"a{stage.suffix}"
    write(stage, result(np.zeros((4, 4))), path)
    before = path.read_bytes()
    write(stage, result(np.ones((4, 4)), NAMES[1:]), path)
    assert path.read_bytes() != before


def test_the_same_result_gives_the_same_bytes(stage, tmp_path):
    first = [file.read_bytes() for file in write(stage, result(checkers()), tmp_path / f"a{stage.suffix}")]
    again = [file.read_bytes() for file in write(stage, result(checkers()), tmp_path / f"b{stage.suffix}")]
    assert first == again


def test_a_missing_folder_and_a_folder_in_the_way_are_refused(stage, tmp_path):
    (tmp_path / f"folder{stage.suffix}").mkdir()
    for path in (tmp_path / "none" / f"a{stage.suffix}", tmp_path / f"folder{stage.suffix}"):
        with pytest.raises(OutputError):
            write(stage, result([[0]]), path)
    assert [path.name for path in tmp_path.iterdir()] == [f"folder{stage.suffix}"]


@pytest.mark.parametrize("name", ["png", "overlay"])
def test_a_crash_while_drawing_leaves_nothing_half(name, tmp_path, monkeypatch):
    stage = _ALL[name]
    path = tmp_path / f"a{stage.suffix}"
    write(stage, result(np.zeros((4, 4))), path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def half(self, target, *args, **options):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OutputError, match="No space left"):
        write(stage, result(np.ones((4, 4))), path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def lossless(writer):
    """What the round trip is exact for; a format that cannot be exact has no ``read``."""
    return writer.read is not None


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def collect(writer, results, folder, **options):
    """Parts as a journal keeps them: through JSON and back."""
    chosen = registry.options(writer.Options, options)
    folder.mkdir(exist_ok=True)
    parts = [json.loads(json.dumps(writer.part(made, folder, stem, chosen))) for stem, made in results]
    return parts, writer.finish(iter(parts), folder, chosen)


def noise(labels=6, ignored=True):
    ids = np.random.default_rng(1).integers(0, labels, (13, 17))
    if ignored:
        ids[np.random.default_rng(2).random(ids.shape) < 0.2] = 255
    return ids


IMAGES = {
    "parts and holes": checkers(),
    "sub/名前 ü": noise(),
    "sub/deep/a.b": np.full((2, 4), 255),
    "-x": [[0]],
    "one": np.full((4, 5), 5),
    "column": np.arange(6)[:, None],
}


@pytest.mark.parametrize("background", [None, 5], ids=["all labels", "background"])
def test_a_collection_comes_back(many, tmp_path, background):
    names = (*TAME[:5], "background") if background else TAME
    made = {stem: result(ids, names, background=background, name=f"{stem}.jpg") for stem, ids in IMAGES.items()}
    parts, joint = collect(many, made.items(), tmp_path / "out")
    assert all(path.is_file() for path in joint)
    assert joint[-1].name == "run.json"
    files = {path.relative_to(tmp_path / "out").as_posix() for path in joint} | {file for part in parts for file in part["files"]}
    assert files == set(contents(tmp_path / "out"))
    assert [part["stem"] for part in parts] == list(IMAGES)
    assert [image["stem"] for image in json.loads(joint[-1].read_text())["pictures"]] == list(IMAGES)
    if lossless(many):
        found = dict(many.read(tmp_path / "out"))
        assert list(found) == list(IMAGES)
        for stem, reading in found.items():
            np.testing.assert_array_equal(reading.ids, made[stem].segmentation.numpy(), err_msg=stem)
            assert reading.labels == names
            assert reading.run["picture"]["sha256"] == made[stem].image.sha256


@pytest.mark.parametrize("name", [*NAMES, "a:b", "a\nb", "#a", "a,b", "<b>x</b>", " a ", "'", "background", "a\tb", "\u2028"])
def test_a_name_comes_back_or_is_refused(many, tmp_path, name):
    made = result([[0, 1], [255, 1]], (name, "other"))
    refused = None
    try:
        collect(many, [("a", made)], tmp_path / "out")
    except OutputError as error:
        refused = str(error)
    if refused is not None:
        assert repr(name) in refused
        assert contents(tmp_path / "out") == {}
        return
    if lossless(many):
        ((_, found),) = many.read(tmp_path / "out")
        assert found.labels == (name, "other")
        np.testing.assert_array_equal(found.ids, made.segmentation.numpy())


@pytest.mark.parametrize("count", [1, 254, 255, 300])
def test_a_collection_of_many_labels_or_a_clear_no(many, tmp_path, count):
    names = tuple(f"thing {number}" for number in range(count))
    made = result(np.arange(300).reshape(15, 20) % count, names)
    if not many.holds(count):
        with pytest.raises(OutputError, match=str(count)):
            collect(many, [("a", made)], tmp_path / "out")
        assert contents(tmp_path / "out") == {}
        return
    collect(many, [("a", made)], tmp_path / "out")
    if lossless(many):
        ((_, found),) = many.read(tmp_path / "out")
        np.testing.assert_array_equal(found.ids, made.segmentation.numpy())
        assert found.labels == names


def test_a_collection_has_the_same_bytes_each_time(many, tmp_path):
    made = [(stem, result(ids, TAME)) for stem, ids in IMAGES.items()]
    parts, _ = collect(many, made, tmp_path / "a")
    collect(many, made, tmp_path / "b")
    before = contents(tmp_path / "a")
    assert before == contents(tmp_path / "b")
    many.finish(iter(parts), tmp_path / "a", many.Options())
    assert contents(tmp_path / "a") == before


def test_a_part_stands_alone(many, tmp_path):
    """In any order, and again after a kill that left the joined files unwritten: the folder is the same in the end."""
    made = [(stem, result(ids, TAME)) for stem, ids in IMAGES.items()]
    parts, _ = collect(many, made, tmp_path / "a")
    (tmp_path / "b").mkdir()
    again = {stem: many.part(one, tmp_path / "b", stem, many.Options()) for stem, one in reversed(made)}
    for stem, one in made[:3]:  # killed here, and begun again
        again[stem] = many.part(one, tmp_path / "b", stem, many.Options())
    assert [again[stem] for stem, _ in made] == parts
    assert not (tmp_path / "b" / "run.json").exists()
    many.finish((again[stem] for stem, _ in made), tmp_path / "b", many.Options())
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_no_part_makes_no_file(many, tmp_path):
    assert many.finish(iter(()), tmp_path, many.Options()) == ()
    assert contents(tmp_path) == {}


def test_parts_of_two_jobs_are_not_joined(many, tmp_path):
    one, two = (many.part(result([[0]], names), tmp_path, names[0], many.Options()) for names in (("a", "b"), ("b", "a")))
    with pytest.raises(OutputError, match="other labels"):
        many.finish(iter([one, two]), tmp_path, many.Options())
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize("stem", ["../a", "/a", "a/../../b", "", "a//b", "./a", "a\0b"])
def test_a_stem_stays_in_the_folder(many, tmp_path, stem):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="place"):
        many.part(result([[0]], TAME), tmp_path / "out", stem, many.Options())
    assert contents(tmp_path) == {}


def test_a_crash_in_a_collection_leaves_nothing_half(many, tmp_path, monkeypatch):
    made = [("a", result(checkers(), TAME))]
    parts, _ = collect(many, made, tmp_path)
    before = contents(tmp_path)

    def gone():
        yield parts[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        many.finish(gone(), tmp_path, many.Options())
    assert contents(tmp_path) == before


def test_saving_one_result_is_a_collection_of_one(many, tmp_path):
    name = next(name for name in _MANY if _ALL[name] is many)
    made = result(checkers(), TAME, name="street.jpg")
    files = made.save(tmp_path / "out", format=name)
    assert {path.relative_to(tmp_path / "out").as_posix() for path in files} == set(contents(tmp_path / "out"))
    assert made.save(tmp_path / "out", format=name) == files
    with pytest.raises(OutputError, match="street"):
        result(checkers(), TAME, name="other.jpg").save(tmp_path / "out", format=name)
    with pytest.raises(OutputError):
        made.save(tmp_path / "none" / "out", format=name)
    with pytest.raises(OutputError, match="folder"):
        made.save(files[0], format=name)


def test_saving_many_results(many, tmp_path):
    name = next(name for name in _MANY if _ALL[name] is many)
    made = {stem: result(ids, TAME) for stem, ids in IMAGES.items()}
    collect(many, made.items(), tmp_path / "a")
    files = save_all(iter(made.items()), tmp_path / "b", name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(set(files)) == len(contents(tmp_path / "b"))
    with pytest.raises(OutputError, match="twice"):
        save_all([result([[0]], TAME), result([[1]], TAME)], tmp_path / "c", name)


def test_saving_many_takes_a_collection(tmp_path):
    with pytest.raises(OutputError, match="coco"):
        save_all([result([[0]])], tmp_path, "png")


def test_finish_keeps_no_part(many, tmp_path):
    """Memory does not grow with the images: of twenty parts at most three are alive at once."""

    class Part(dict):
        __slots__ = ("__weakref__",)

    def parts():
        for number in range(20):
            entry = Part(many.part(result([[0, 1], [1, 255]], TAME), tmp_path, f"{number}", many.Options()))
            alive.append(weakref.ref(entry))
            yield entry
            del entry
            most.append(sum(reference() is not None for reference in alive))

    alive, most = [], []
    many.finish(parts(), tmp_path, many.Options())
    assert len(alive) == 20
    assert max(most) <= 3


def no_room(self, target):
    raise OSError(28, "No space left on device")


def test_a_crash_while_writing_leaves_nothing_half(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", no_room)
    with pytest.raises(OutputError, match="No space left"):
        write(stage, result(checkers()), tmp_path / f"a{stage.suffix}")
    assert contents(tmp_path) == {}


def test_a_crash_in_a_part_leaves_nothing_half(many, tmp_path, monkeypatch):
    made = result(checkers(), TAME)
    part = many.part(made, tmp_path, "a", many.Options())
    before = contents(tmp_path)
    monkeypatch.setattr(Path, "replace", no_room)
    if part["files"]:
        with pytest.raises(OutputError, match="No space left"):
            many.part(made, tmp_path, "b", many.Options())
    with pytest.raises(OutputError, match="No space left"):
        many.finish([part], tmp_path, many.Options())
    assert contents(tmp_path) == before


ODD = (None, [], {}, -1, 10**30, "x", [None], [[[]]])


def places(value, at=()):
    """Where something stands in a JSON text: of a list the first entry, of an object the first few."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, below in list(inner)[:8]:
        yield from places(below, (*at, key))


def changed(text, at, new):
    told = json.loads(text)
    if not at:
        return json.dumps(new)
    inner = told
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = new
    return json.dumps(told)


@pytest.mark.parametrize("name", [name for name in sorted(_ALL) if lossless(_ALL[name])])
def test_what_somebody_changed_is_read_or_refused_in_our_words(name, tmp_path):
    writer = _ALL[name]
    made = result(noise(), TAME)
    if is_collection(writer):
        place = tmp_path / "out"
        collect(writer, [("a", made)], place)
    else:
        place = tmp_path / f"a{writer.suffix}"
        write(writer, made, place)
    for path in tmp_path.rglob("*.json"):
        text = path.read_text("utf-8")
        # What is never read back, and the packed masks, are many and alike.
        found = [at for at in places(json.loads(text)) if not {"recipe", "weights", "versions"} & set(at) and len(at) < 8]
        for content in ("", "[" * 100_000, "1" * 5001, *(changed(text, at, odd) for at in found for odd in ODD)):
            path.write_text(content, encoding="utf-8")
            with contextlib.suppress(ImageError):
                back = writer.read(place)
                for _ in back if is_collection(writer) else ():
                    pass
        path.write_text(text, encoding="utf-8")
