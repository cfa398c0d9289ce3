"""What a batch keeps its hands off, and what it makes good: inputs, strangers' files, odd names, closed folders, full disks, lost files."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from nerveseg import outputs
from nerveseg.batch import find, run
from nerveseg.errors import OptionError, OutputError, RunError
from nerveseg.runs import journal
from nerveseg.writers import base, png

COLLECTIONS = ("coco", "panoptic", "voc", "cvat", "labelstudio", "yolo")


@pytest.fixture
def listed(photos, tmp_path, monkeypatch):
    """``listed("in/p000.png", …)``: the images of a list, in the folder that is current."""
    photos(3)
    monkeypatch.chdir(tmp_path)

    def make(*lines):
        (tmp_path / "list.txt").write_text("\n".join(lines))
        return find("list.txt")

    return make


def hard_link(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)


def soft_link(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("lines", "prepare"),
    [
        (("a.png", "out/a.png"), lambda at: [shutil.copy(at / "in/p001.png", at / "out/a.png")]),
        (("in/p000.png",), lambda at: soft_link(at / "in", at / "out/in")),
        (("in/.h/a.png", "out/in/.h/a.png"), lambda at: [shutil.copytree(at / "in/.h", at / "out/in/.h")]),
        (("in/p000.png",), lambda at: hard_link(at / "in/p000.png", at / "out/in/p000.png")),
        (("in/p000.png",), lambda at: soft_link(at / "in/p000.png", at / "out/in/p000.png")),
    ],
    ids=["a mask of another image's name", "a folder that links", "hidden", "a second name", "a link"],
)
def test_no_input_is_ever_written_over(listed, job, digest, tmp_path, lines, prepare, overwrite):
    for name in ("a.png", "in/.h/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "in/p000.png", tmp_path / name)
    (tmp_path / "out").mkdir()
    prepare(tmp_path)
    before = digest(tmp_path / "in"), (tmp_path / "a.png").read_bytes()
    there = digest(tmp_path / "out")
    with pytest.raises(OptionError, match="which is the input"):
        run(job(), listed(*lines), "out", overwrite=overwrite)
    assert (digest(tmp_path / "in"), (tmp_path / "a.png").read_bytes()) == before
    assert digest(tmp_path / "out") == there


@pytest.mark.parametrize("name", COLLECTIONS)
def test_a_folder_that_is_read_from_is_no_place_for_a_collection(listed, job, tmp_path, name):
    (tmp_path / "out/sub").mkdir(parents=True)
    found = listed("in/p000.png")
    hard_link(tmp_path / "in/p000.png", tmp_path / "out/.hidden/x.png")
    with pytest.raises(OptionError, match="holds the input"):
        run(job(format=name), found, "out", overwrite=True)


def test_lists_of_labels_and_recipes_are_inputs_too(photos, job, tmp_path):
    source, out = photos(1), tmp_path / "out"
    out.mkdir()
    (out / "p000.run.json").write_text("cat\ndog\n")
    with pytest.raises(OptionError, match="which is the input"):
        run(job(), find(source), out, overwrite=True, read=[out / "p000.run.json"])
    assert (out / "p000.run.json").read_text() == "cat\ndog\n"


def test_overwrite_replaces_files_and_batches_and_leaves_no_file_of_the_old_one(photos, job, undisturbed, digest, tmp_path):
    source, out = photos(3), tmp_path / "out"
    out.mkdir()
    (out / "p000.png").write_text("mine")
    (out / "note.txt").write_text("mine")
    with pytest.raises(OptionError, match="--overwrite"):
        run(job(), find(source), out)
    assert run(job(), find(source), out, overwrite=True).done == 3
    more = find(source / "p001.png")
    assert run(job(format="yolo"), more, out, overwrite=True).done == 1
    (out / "note.txt").unlink()
    assert digest(out) == undisturbed(source / "p001.png", format="yolo")
    assert run(job(format="yolo"), more, out, overwrite=True).done == 1
    assert digest(out) == digest(tmp_path / "undisturbed")


def test_a_file_that_came_meanwhile_is_kept_and_costs_one_image(photos, job, digest, tmp_path, monkeypatch):
    source, out, write = photos(3), tmp_path / "out", png.write

    def stranger(segmentation, path, options):
        if path.name == "p001.png":
            path.write_text("mine")
        return write(segmentation, path, options)

    monkeypatch.setattr(png, "write", stranger)
    ran = run(job(), find(source), out)
    assert [one.item for one in ran.bad] == ["p001.png"]
    assert "was not made by this run" in ran.bad[0].message
    assert (out / "p001.png").read_text() == "mine"
    assert not (out / "p001.run.json").exists()
    monkeypatch.undo()
    (out / "p001.png").unlink()
    assert run(job(), find(source), out, resume=True).bad == ()


def test_what_a_kill_left_between_mask_and_journal_is_known_as_its_own(photos, job, undisturbed, digest, tmp_path, monkeypatch):
    source, out, put = photos(2), tmp_path / "out", outputs.put

    def half(*finished):
        put(*finished)
        if finished[-1][1].name == "p001.png":
            finished[-1][1].write_bytes(b"other bytes than a second run makes")
            raise ZeroDivisionError  # stands for a kill

    monkeypatch.setattr(outputs, "put", half)
    with pytest.raises(ZeroDivisionError):
        run(job(), find(source), out)
    monkeypatch.undo()
    assert run(job(), find(source), out, resume=True).bad == ()
    assert digest(out) == undisturbed(source)


def lose(*names):
    return lambda out: [(out / name).unlink() for name in names]


def cut(name, keep):
    return lambda out: (out / name).write_bytes((out / name).read_bytes()[:keep])


RESULTS = ".nerveseg/job/results.jsonl"


@pytest.mark.parametrize(
    ("format", "harm", "again"),
    [
        ("png", lose("p001.png"), 1),
        ("png", lose("p000.run.json", "deep/p002.png"), 2),
        ("png", cut("p001.png", 40), 1),
        ("png", cut(RESULTS, 100), 4),
        ("png", cut(RESULTS, -10), 1),
        ("png", cut(RESULTS, 0), 4),
        ("png", lose(RESULTS), 4),
        ("yolo", lose("labels/p001.txt"), 1),
        ("yolo", lose("data.yaml"), 0),
        ("coco", cut("instances.json", 100), 0),
        ("coco", cut(RESULTS, -10), 1),
        ("coco", lose("batch.json"), 0),
        ("voc", lose("SegmentationClass/p003.png", "labelmap.txt"), 1),
    ],
)
def test_what_a_finished_batch_lost_is_made_again_and_nothing_else(photos, job, undisturbed, digest, tmp_path, format, harm, again):
    source, out = photos(4), tmp_path / "out"
    (source / "bad.jpg").write_bytes(b"no image")
    expected = undisturbed(source, format=format)
    shutil.copytree(tmp_path / "undisturbed", out)
    (source / "bad.jpg").write_bytes(b"no image")
    harm(out)
    ran = run(job(format=format), find(source), out, resume=True)
    assert (ran.done, ran.before, [one.item for one in ran.bad]) == (again, 4 - again, ["bad.jpg"])
    assert digest(out) == expected


def test_an_unfinished_batch_notices_a_lost_mask_too(photos, job, undisturbed, digest, tmp_path, monkeypatch):
    source, out, write = photos(4), tmp_path / "out", png.write
    with monkeypatch.context() as patch:
        patch.setattr(png, "write", lambda result, path, options: 1 / 0 if path.name == "p003.png" else write(result, path, options))
        with pytest.raises(ZeroDivisionError):
            run(job(), find(source), out)
    done = sorted(out.rglob("p*.png"))
    done[0].unlink()
    ran = run(job(), find(source), out, resume=True)
    assert ran.before == len(done) - 1
    assert digest(out) == undisturbed(source)


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize(
    "content", [b"[]", b"", b'{"bad": 3}', b'{"bad": [1], "digest": "", "images": {}}', b"\xff", b"[" * 100_000, b"null"]
)
def test_a_record_that_is_none_is_told(photos, job, tmp_path, content, resume):
    source, out = photos(1), tmp_path / "out"
    run(job(), find(source), out)
    (out / "batch.json").write_bytes(content)
    with pytest.raises(RunError, match=r"batch\.json, which cannot be read"):
        run(job(), find(source), out, resume=resume)
    (out / "batch.json").unlink()
    assert run(job(), find(source), out, resume=True).before == 1


@pytest.mark.parametrize("name", ["shared.json", "job/run.json", "job/items.jsonl"])
@pytest.mark.parametrize("content", [b"", b"[]", b'{"a'])
def test_a_state_that_is_damaged_is_told(photos, job, tmp_path, name, content):
    source, out = photos(1), tmp_path / "out"
    run(job(format="coco"), find(source), out)
    (out / "batch.json").unlink()
    (out / ".nerveseg" / name).write_bytes(content)
    with pytest.raises(RunError, match="Accepted"):
        run(job(format="coco"), find(source), out, resume=True)
    assert run(job(format="coco"), find(source), out, overwrite=True).done == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("where", ["lock", "plan", "journal", "claim", "mask", "results", "joined", "record"])
def test_a_disk_that_refuses_is_our_error_everywhere_and_nothing_finished_is_lost(
    photos, job, undisturbed, digest, tmp_path, monkeypatch, where, number
):
    source, out = photos(3), tmp_path / "out"
    refusal = OSError(number, os.strerror(number))

    def refused(*_, **__):
        raise refusal

    def at(name):
        """Drafts of that name find no room."""
        put = outputs.put
        return lambda *finished: refused() if any(path.name.startswith(name) for _, path in finished) else put(*finished)

    with monkeypatch.context() as patch:
        if where == "lock":
            patch.setattr(os, "pwrite", refused)
        elif where == "claim":
            patch.setattr(os, "write", refused)
        elif where == "journal":
            append, count = journal.Journal._append, []
            patch.setattr(journal.Journal, "_append", lambda book, line: refused() if count else (count.append(1), append(book, line)))
        else:
            names = {"plan": "items.jsonl", "mask": "p001", "results": "results.jsonl", "joined": "panoptic.json"}
            patch.setattr(outputs, "put", at({**names, "record": "batch.json"}[where]))
        with pytest.raises(OutputError, match=os.strerror(number)):
            run(job(format="panoptic"), find(source), out)
    done = sum('"result"' in line for line in journal.lines(out / ".nerveseg/job"))
    assert not list(out.rglob("*.part"))
    begun = (out / ".nerveseg/job/run.json").is_file()
    ran = run(job(format="panoptic"), find(source), out, resume=begun)
    assert (ran.before, ran.bad) == (done, ())
    assert digest(out) == undisturbed(source, format="panoptic")


def test_names_that_are_odd_cost_themselves_alone(photos, job, tmp_path):
    source, out = photos(2), tmp_path / "out"
    good = (source / "p000.png").read_bytes()
    (source / ("x" * 251 + ".png")).write_bytes(good)
    (source / "loop.png").symlink_to("loop.png")
    (source / "turn\x1b[2J.png").write_bytes(b"no image")
    odd = os.fsencode(source) + b"/bad\xff\xfe.png"
    try:
        Path(os.fsdecode(odd)).write_bytes(good)
    except OSError:
        pytest.skip("this disk takes names in UTF-8 alone")
    found = find(source)
    ran = run(job(), found, out)
    assert ran.done == 2
    assert {one.item[:4] for one in ran.bad} == {"xxxx", "loop", "turn", "bad\udcff"}
    assert all(one.message.endswith(".") for one in ran.bad)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
@pytest.mark.parametrize("pattern", ["", "/**/*.png", "/*/*.png"])
def test_a_folder_that_cannot_be_read_is_told(photos, tmp_path, pattern):
    source = photos(3)
    closed = source / "closed"
    closed.mkdir(mode=0)
    try:
        found = find(f"{source}{pattern}")
    finally:
        closed.chmod(0o700)
    ((name, reason),) = found.unread
    assert name == "closed/"
    assert "cannot be read" in reason


def test_a_folder_that_cannot_be_read_is_told_for_root_too(photos, monkeypatch):
    source, walk = photos(3), os.walk

    def closed(top, onerror=None, **more):
        onerror(PermissionError(errno.EACCES, "Permission denied", str(source / "closed")))
        return walk(top, onerror=onerror, **more)

    monkeypatch.setattr(os, "walk", closed)
    for what in (source, f"{source}/**/*.png", f"{source}/*/*.png"):
        assert find(what).unread[0][0] == "closed/"


def test_an_image_that_is_no_utf8_in_its_own_record(tmp_path, mini):
    place = os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.png")
    try:
        Image.new("RGB", (40, 40), "red").save(place)
    except OSError:
        pytest.skip("this disk takes names in UTF-8 alone")
    mini(place, ["cat", "dog"]).save(tmp_path / "out.png")
    assert json.loads((tmp_path / "out.run.json").read_text("utf-8"))["picture"]["name"] == "bad\udcff.png"


def test_drafts_are_placed_all_or_none(tmp_path):
    (tmp_path / "b").write_text("mine")

    def both():
        with outputs.keeping(outputs.Inputs(), overwrite=False), base.replacing(tmp_path / "a", tmp_path / "b") as drafts:
            for draft in drafts:
                draft.write_text("new")

    with pytest.raises(OutputError, match="was not made by this run"):
        both()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]
    with outputs.keeping(outputs.Inputs(), overwrite=False), base.replacing(tmp_path / "b") as (draft,):
        draft.write_text("mine")
