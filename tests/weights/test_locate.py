from __future__ import annotations

import dataclasses

import pytest

from nerveseg.errors import WeightsError, WeightsNotFound
from nerveseg.weights import catalogue, locate
from nerveseg.weights.catalogue import GENERIC, alternatives, chosen, find, missing


def test_every_row_of_the_catalogue_is_whole():
    rows = catalogue()
    assert set(rows) >= {
        "embedded:clip", "embedded:diffusion", "clip-b16", "clip-l14", "clip-l14-336", "metaclip-b16", "metaclip-l14", "laion-b16",
        "laion-l14", "laion-h14", "sd-1.5", "sd-2.1", "sd-2.1-base", "dino-b8", "dino-b16", "dinov2-b", "groupvit-yfcc", "groupvit-redcaps",
        "taesd",
    }  # fmt: skip
    assert {row.kind for row in rows.values()} == set(GENERIC)
    for row in rows.values():
        assert set(row.revisions) <= set(row.ids)
        assert all(len(digest) == 64 for digest in row.digests.values())
        assert not [
            name for entry in row.files for name in alternatives(entry) if name.endswith((".bin", ".pt", ".ckpt", ".msgpack", ".h5"))
        ]
        assert row.bytes > 0
        assert row.files
        assert row.licence
        assert bool(row.ids) != row.name.startswith("embedded:")
        assert all(hub_id.count("/") == 1 for hub_id in row.ids)


def test_a_row_is_found_by_name_and_by_any_mirror():
    assert find("Manojb/stable-diffusion-2-1-base") == find("sd-2.1-base")
    assert find("nobody/nothing") is None


def test_alternatives_are_either_or():
    assert alternatives("a | b") == ("a", "b")
    assert missing(("a | b", "c"), {"b"}) == ("c",)


def test_a_weight_file_stands_for_its_forms():
    full, index, short = "a/m.safetensors", "a/m.safetensors.index.json", "a/m.fp16.safetensors"
    shards = {
        "a/m-00001-of-00002.safetensors",
        "a/m-00002-of-00002.safetensors",
        "a/m.fp16-00001-of-00001.safetensors",
        "m-00001-of-00002.safetensors",
    }
    assert chosen(full, {full, index, short}) == (full,)
    assert chosen(full, {full, index, short}, half=True) == (short,)
    assert chosen(full, {index, *shards}, half=True) == (index, *sorted(shards)[:2])
    assert chosen(full, {"a/m.safetensors.index.fp16.json", *shards}) == (
        "a/m.safetensors.index.fp16.json",
        "a/m.fp16-00001-of-00001.safetensors",
    )
    assert chosen(full, {"m.safetensors"}) == ()


def test_a_local_folder_is_itself(clip_folder):
    folder = locate(clip_folder, offline=True, kind="clip")
    assert (folder.path, folder.source) == (clip_folder, "folder")
    assert len(folder.digest) == 64


def test_the_digest_follows_contents_and_names(clip_folder, tmp_path):
    (tmp_path / "config.json").write_text("1")
    one = locate(tmp_path, offline=True)
    digest = one.digest
    (tmp_path / "notes.md").write_text("not a weight")
    assert dataclasses.replace(one).digest == digest
    (tmp_path / "config.json").write_text("2")
    assert dataclasses.replace(one).digest != digest
    (tmp_path / "config.json").write_text("1")
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    assert dataclasses.replace(one).digest != digest


def test_an_incomplete_folder_says_what_it_lacks(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"without model.safetensors, tokenizer.json \| vocab.json"):
        locate(tmp_path, offline=True, kind="clip")


@pytest.mark.parametrize("ref", ["no-such-name", "/no/such/folder", "embedded:nothing", ""])
def test_what_stands_for_nothing_is_refused(ref):
    with pytest.raises(WeightsNotFound, match="Accepted are"):
        locate(ref, offline=True)
