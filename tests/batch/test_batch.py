"""A batch from the first image to the record: what is refused, what is kept, shards, bad images."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from PIL import Image

from nerveseg.batch import find, run
from nerveseg.batch import worker as working
from nerveseg.errors import ImageError, LabelError, OptionError, OutputError, RegistryError, RunError
from nerveseg.runs import prefetch
from nerveseg.segmenter import Segmenter
from nerveseg.writers import png


def record(out):
    return json.loads((out / "batch.json").read_text("utf-8"))


def test_masks_lie_at_the_images_paths_and_nothing_else_is_left(photos, job, tmp_path):
    out = tmp_path / "out"
    said = []
    ran = run(job(), find(photos(6)), out, said=lambda done, of: said.append((done, of)))
    assert (ran.done, ran.before, ran.bad, ran.waiting) == (6, 0, (), ())
    assert said[0] == (0, 6)
    assert said[-1] == (6, 6)
    masks = {f"{'deep/' if number % 3 == 2 else ''}p{number:03d}" for number in range(6)}
    kept = {".nerveseg/job/items.jsonl", ".nerveseg/job/results.jsonl", ".nerveseg/job/run.json", "batch.json"}
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert found == {f"{mask}{ending}" for mask in masks for ending in (".png", ".run.json")} | kept
    for number, mask in enumerate(sorted(masks, key=lambda mask: mask[-3:])):
        scores = np.load(tmp_path / "scores" / f"p{number:03d}.npz")["scores"]
        result = Segmenter.from_pretrained("mini", settings=job().settings)(tmp_path / "in" / f"{mask}.png", ["cat", "dog", "grass"])
        np.testing.assert_array_equal(png.read(out / f"{mask}.png").ids, result.segmentation.numpy())
        assert scores.shape[0] == len(result.labels)
    told = record(out)
    assert told["pictures"] == {"count": 6, "labelled": 6}
    assert [label["name"] for label in told["labels"]] == ["cat", "dog", "grass"]
    assert told["recipe"]["name"] == "mini"
    assert "nerveseg" in told["versions"]


@pytest.mark.parametrize("format", ["png", "coco"])
def test_shards_in_one_folder_leave_what_one_batch_leaves(photos, job, undisturbed, digest, tmp_path, format):
    source = photos(7)
    (source / "bad.jpg").write_bytes(b"")
    expected = undisturbed(source, format=format)
    out, found, asked = tmp_path / "out", find(source), job(format=format)
    ran = run(asked, found, out, shard=(2, 3))
    assert (ran.done, ran.waiting) == (2, ((0, 3), (1, 3)))
    assert not (out / "batch.json").exists()
    ran = run(asked, found, out, shard=(0, 3))
    assert ran.waiting == ((1, 3),)
    assert len(ran.bad) == 1
    with pytest.raises(OptionError, match="begun in 3 shards"):
        run(asked, found, out, resume=True)
    with pytest.raises(OptionError, match="not finished"):
        run(asked, found, out, shard=(0, 3))
    ran = run(asked, found, out, shard=(1, 3))
    assert ran.waiting == ()
    assert [bad.item for bad in ran.bad] == ["bad.jpg"]
    assert digest(out) == expected


def test_shards_of_two_machines_are_copied_together(photos, job, undisturbed, digest, tmp_path):
    import shutil

    source = photos(5)
    expected = undisturbed(source, format="coco")
    for at in range(2):
        run(job(format="coco"), find(source), tmp_path / f"out{at}", shard=(at, 2))
    shutil.copytree(tmp_path / "out1", tmp_path / "out0", dirs_exist_ok=True)
    ran = run(job(format="coco"), find(source), tmp_path / "out0", shard=(0, 2), resume=True)
    assert (ran.done, ran.before, ran.waiting) == (0, 3, ())
    assert digest(tmp_path / "out0") == expected


def test_bad_images_of_shards_are_tried_again_whatever_the_shard(photos, job, undisturbed, digest, tmp_path, monkeypatch):
    source, out = photos(4), tmp_path / "out"
    good = (source / "p001.png").read_bytes()
    (source / "p001.png").write_bytes(b"")
    for at in range(2):
        run(job(), find(source), out, shard=(at, 2))
    (source / "p001.png").write_bytes(good)
    with monkeypatch.context() as patch:
        patch.setattr(png, "write", lambda *_: 1 / 0)  # stands for a kill
        with pytest.raises(ZeroDivisionError):
            run(job(), find(source), out, shard=(0, 2), resume=True)
    assert not (out / "batch.json").exists()
    ran = run(job(), find(source), out, shard=(0, 2), resume=True)
    assert (ran.done, ran.before, ran.bad) == (1, 3, ())
    assert digest(out) == undisturbed(source)


def test_two_workers_leave_what_one_leaves(photos, job, undisturbed, digest, tmp_path):
    source = photos(6)
    expected = undisturbed(source, format="coco")
    run(job(format="coco"), find(source), tmp_path / "out", workers=2)
    assert digest(tmp_path / "out") == expected


def test_bad_images_are_listed_and_tried_again(photos, job, undisturbed, digest, tmp_path):
    source, out = photos(4), tmp_path / "out"
    good = (source / "p001.png").read_bytes()
    (source / "p001.png").write_bytes(good[:60])
    (source / "text.jpg").write_bytes(b"hello")
    ran = run(job(format="coco"), find(source), out)
    assert [bad.item for bad in ran.bad] == ["p001.png", "text.jpg"]
    assert ran.done == 3
    assert [bad["type"] for bad in record(out)["bad"]] == ["ImageError", "ImageError"]
    with pytest.raises(OptionError, match=r"finished batch.*--resume to try its 2 bad"):
        run(job(format="coco"), find(source), out)
    (source / "p001.png").write_bytes(good)
    ran = run(job(format="coco"), find(source), out, resume=True)
    assert (ran.done, ran.before, [bad.item for bad in ran.bad]) == (1, 3, ["text.jpg"])
    assert digest(out) == undisturbed(source, format="coco")
    with pytest.raises(ImageError, match="hello"):
        run(job(), find(source), tmp_path / "strict", skip_bad=False)


def test_a_finished_batch_is_told_and_not_done_again(photos, job, tmp_path):
    source, out = photos(3), tmp_path / "out"
    run(job(), find(source), out)
    with pytest.raises(OptionError, match=r"finished batch.*Choose another folder\.$"):
        run(job(), find(source), out)
    ran = run(job(), find(source), out, resume=True)
    assert (ran.done, ran.before) == (0, 3)
    with pytest.raises(RunError, match=r"differs from the finished one in .* in 'labels'"):
        run(job().__class__(("cat", "dog", "sky"), recipe="mini", settings=job().settings), find(source), out, resume=True)
    Image.new("RGB", (8, 8)).save(source / "new.png")
    with pytest.raises(RunError, match="'pictures'"):
        run(job(), find(source), out, resume=True)


def test_what_is_in_the_way_is_refused_and_other_files_are_left_alone(photos, job, tmp_path):
    source, out = photos(3), tmp_path / "out"
    (out / "deep").mkdir(parents=True)
    (out / "readme.txt").write_text("mine")
    (out / "deep" / "p002.run.json").write_text("mine, too")
    with pytest.raises(OptionError, match=r"p002\.run\.json, which is there already"):
        run(job(), find(source), out)
    with pytest.raises(OptionError, match="new or an empty folder"):
        run(job(format="coco"), find(source), out)
    with pytest.raises(OptionError, match="folder for the masks alone"):
        run(job(), find(source), source)
    (out / "deep" / "p002.run.json").unlink()
    run(job(), find(source), out)
    assert (out / "readme.txt").read_text() == "mine"
    inside = source / "masks"
    run(job(), find(source, leave_out=inside), inside)
    assert find(source, leave_out=inside).items == ("deep/p002.png", "p000.png", "p001.png")


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"format": "pngg"}, RegistryError, "Did you mean 'png'"),
        ({"writer": {"side": 1}}, OptionError, "Accepted are sidecar"),
        ({"abstain": 1.5}, OptionError, "abstain = 1.5"),
        ({"abstain": -0.1}, OptionError, "Accepted is 0 to 1"),
        ({"abstain": float("nan")}, OptionError, "abstain = nan"),
        ({"tile": 3}, OptionError, "tile = 3"),
        ({"background": ["cat"]}, LabelError, "both as a label and as background"),
    ],
)
def test_what_no_image_could_have_is_refused_before_the_folder_is_made(photos, job, tmp_path, given, error, match):
    with pytest.raises(error, match=match):
        run(job(**given), find(photos(1)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_network_does_not_wait_for_the_disk(photos, job, tmp_path, monkeypatch):
    """The first image's files are held back until the third image is worked on."""
    begun, third = [], threading.Event()
    write, encode = working.Labelling._write, Segmenter.encode

    def counted(self, image, **options):
        begun.append(image.name)
        if len(begun) == 1 + prefetch.BEHIND:
            third.set()
        return encode(self, image, **options)

    def held(self, item, result):
        assert third.wait(300)
        return write(self, item, result)

    monkeypatch.setattr(Segmenter, "encode", counted)
    monkeypatch.setattr(working.Labelling, "_write", held)
    ran = run(job(), find(photos(5)), tmp_path / "out")
    assert ran.done == 5


def test_a_full_disk_stops_the_batch_and_a_name_too_long_does_not(photos, job, tmp_path, monkeypatch):
    source, out = photos(4), tmp_path / "out"
    write = png.write

    def full(segmentation, path, options):
        if "p001" in path.name:
            raise OutputError("Got a full disk. Accepted is room. Make room.") from OSError(28, "No space left on device")
        return write(segmentation, path, options)

    with monkeypatch.context() as patch:
        patch.setattr(png, "write", full)
        with pytest.raises(OutputError, match="full disk"):
            run(job(), find(source), out)
    ran = run(job(), find(source), out, resume=True)
    assert ran.done + ran.before == 4

    def long(segmentation, path, options):
        return write(segmentation, path.with_name("x" * 300), options) if "p001" in path.name else write(segmentation, path, options)

    monkeypatch.setattr(png, "write", long)
    ran = run(job(), find(source), tmp_path / "long")
    assert (ran.done, len(ran.bad)) == (3, 1)
    assert "too long" in ran.bad[0].message


def test_abstaining_below_0_or_1_is_accepted_as_for_one_image(job, tmp_path):
    for threshold in (None, 0, 0.0, 1):
        job(abstain=threshold).check(tmp_path)


def test_unsure_pixels_get_the_ignored_id(photos, job, tmp_path):
    run(job(abstain=0.6), find(photos(1)), tmp_path / "out")
    run(job(), find(tmp_path / "in"), tmp_path / "all")
    unsure, sure = png.read(tmp_path / "out" / "p000.png").ids, png.read(tmp_path / "all" / "p000.png").ids
    assert 0 < (unsure == 255).mean() < 1
    np.testing.assert_array_equal(unsure[unsure != 255], sure[unsure != 255])
