"""Weights that are not here: one message with all of them and one command that works, and folders that carry them."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from nerveseg import recipe as recipes
from nerveseg.cli._app import app
from nerveseg.errors import WeightsError, WeightsNotFound
from nerveseg.segmenter import Segmenter
from nerveseg.weights import carry, locate, locate_all

CLIP, SD = "openai/clip-vit-large-patch14-336", "stabilityai/stable-diffusion-2-1-base"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.mark.parametrize("offline", [True, False])
def test_all_that_a_recipe_lacks_is_told_at_once(hub, offline):
    with pytest.raises(WeightsNotFound) as caught:
        Segmenter.from_pretrained("nerve", offline=offline)
    said = str(caught.value)
    for part in (
        "2 of the 2 networks",
        "clip-l14-336 (1.7 GB, licence MIT",
        "sd-2.1-base (",
        "6.9 GB in all",
        "nerveseg weights fetch nerve",
    ):
        assert part in said, said
    assert said.count("weights fetch") == (1 if offline else 2)
    assert "offline.md" in said
    assert ("--to FOLDER" in said) is not offline


def test_what_is_there_is_not_told(hub, clip_folder):
    hub.add(CLIP, clip_folder)
    locate("clip-l14-336", offline=False)
    with pytest.raises(WeightsNotFound, match=r"Got 1 of the 2 networks that this takes in no place: sd-2.1-base .*weights fetch nerve"):
        Segmenter.from_pretrained("nerve", offline=True)


def test_a_recipe_with_other_weights_is_fetched_by_their_names(hub):
    with pytest.raises(WeightsNotFound, match=r"weights fetch clip-b16 sd-2.1-base "):
        Segmenter.from_pretrained("nerve", settings={"weights.clip": "clip-b16"}, offline=True)
    with pytest.raises(WeightsNotFound, match=r"some/thing \(size and licence unknown.*over 5.2 GB in all"):
        locate_all({"clip": "some/thing", "diffusion": "sd-2.1-base"}, offline=True)


def test_fetching_without_a_network_advises_no_circle(hub, run):
    result = run("weights", "fetch", "nerve")
    assert result.exit_code == 1
    assert "check it and HF_ENDPOINT" in result.stderr
    assert "--to FOLDER, and carry FOLDER here" in result.stderr


@pytest.mark.parametrize(
    "ref", ["/nope", "./x", "../x", "~/nope", "~nobody/x", "C:\\x", "C:/x", "a/../b", "a/b/", "\\\\host\\share", "x\0y", "/" + "y" * 9000]
)
@pytest.mark.parametrize("offline", [True, False])
def test_a_path_that_is_not_there_says_so(hub, ref, offline):
    with pytest.raises(WeightsNotFound, match="there is no such folder"):
        locate(ref, offline=offline, kind="clip")
    with pytest.raises(WeightsNotFound, match="there is no such folder"):
        Segmenter.from_pretrained("mini", settings={"weights.clip": ref}, offline=offline)
    assert not hub.asked


@pytest.mark.parametrize("ref", ["nope", "a..b/c", "a--b/c", "a b/c", "a/b/c", "-a/b", "a/" + "b" * 100, "clip-l14-33"])
def test_what_is_neither_path_nor_id_says_so(hub, ref):
    with pytest.raises(WeightsNotFound, match="which is no folder here"):
        locate(ref, offline=False)
    assert not hub.asked


def test_a_home_folder_and_a_file_are_read_as_they_are_meant(clip_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(clip_folder, tmp_path / "models" / "clip")
    assert locate("~/models/clip", offline=True, kind="clip").path == tmp_path / "models" / "clip"
    with pytest.raises(WeightsError, match="which is a file"):
        locate("~/models/clip/config.json", offline=True)
    with pytest.raises(WeightsNotFound, match=r"Its part \S*models is there"):
        locate("~/models/clop", offline=True)


def test_a_recipe_is_carried_in_plain_folders(hub, clip_folder, diffusion_folder, run, tmp_path):
    hub.add(CLIP, clip_folder)
    hub.add(SD, diffusion_folder)
    (tmp_path / "cache-of-no-use").mkdir()
    fetched = run("weights", "fetch", "nerve", "--to", "carried")
    assert fetched.exit_code == 0, fetched.stderr
    names = sorted(path.name for path in (tmp_path / "carried").iterdir())
    assert names == ["SHA256SUMS", "clip-l14-336", "recipe.toml", "sd-2.1-base"]
    assert not [path for path in (tmp_path / "carried").rglob("*") if path.is_symlink()]
    shutil.rmtree(tmp_path / "cache")
    hub.pages.clear()
    hub.asked.clear()
    moved = (tmp_path / "carried").rename(tmp_path / "elsewhere")
    assert dict(recipes.load(moved).weights) == {"clip": "./clip-l14-336", "diffusion": "./sd-2.1-base"}
    assert Segmenter.from_pretrained(moved, offline=True).recipe.name == "elsewhere"
    verified = run("weights", "verify", "elsewhere")
    assert verified.exit_code == 0, verified.stderr
    assert verified.stdout.count("sha256:") == 2
    path = moved / "clip-l14-336" / "vocab.json"
    path.write_text(path.read_text("utf-8") + " ", "utf-8")
    assert "vocab.json" in run("weights", "verify", "elsewhere").stderr
    assert not hub.asked


def test_checkpoints_by_name_are_carried_without_a_recipe(hub, clip_folder, run, tmp_path):
    hub.add("openai/clip-vit-base-patch16", clip_folder)
    (tmp_path / "cache").mkdir(exist_ok=True)
    assert run("weights", "fetch", "clip-b16", "--to", "there").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["SHA256SUMS", "clip-b16"]
    stated = carry.stated(tmp_path / "there" / "clip-b16")
    assert set(stated) >= {"config.json", "model.safetensors"}
    assert locate(tmp_path / "there" / "clip-b16", offline=True, kind="clip")


def test_the_hubs_cache_can_be_carried_as_a_whole(hub, clip_folder, tmp_path, monkeypatch):
    hub.add("openai/clip-vit-base-patch16", clip_folder)
    locate("clip-b16", offline=False)
    shutil.copytree(tmp_path / "cache", tmp_path / "disk" / "hub", symlinks=True)
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "disk" / "hub"))
    hub.asked.clear()
    assert locate("clip-b16", offline=True).path.is_relative_to(tmp_path / "disk")
    assert not hub.asked


def test_what_lies_in_the_folder_already_is_never_replaced_unasked(hub, clip_folder, run, tmp_path):
    hub.add("openai/clip-vit-base-patch16", clip_folder)
    (tmp_path / "cache").mkdir(exist_ok=True)
    config = tmp_path / "there" / "clip-b16" / "config.json"
    config.parent.mkdir(parents=True)
    right = (clip_folder / "config.json").read_bytes()
    config.write_bytes(b" " * len(right))  # of the same length
    fetched = run("weights", "fetch", "clip-b16", "--to", "there")
    assert fetched.exit_code == 1
    assert "config.json, which is there already" in fetched.stderr
    assert not config.read_bytes().strip()
    assert run("weights", "fetch", "clip-b16", "--to", "there", "--overwrite").exit_code == 0
    assert config.read_bytes() == right
    again = run("weights", "fetch", "clip-b16", "--to", "there")
    assert again.exit_code == 0, again.stderr
    config.write_bytes(right + b" ")  # what an earlier call put there
    assert run("weights", "fetch", "clip-b16", "--to", "there").exit_code == 0
    assert config.read_bytes() == right
    (tmp_path / "there" / "SHA256SUMS").write_text("notes of mine\n", "utf-8")
    assert "line 1 is no digest" in run("weights", "fetch", "clip-b16", "--to", "there").stderr


def test_a_recipe_of_ones_own_is_not_replaced_by_the_one_that_is_carried(run, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "recipe.toml").write_text("# mine\n", "utf-8")
    fetched = run("weights", "fetch", "mini", "--to", "there")
    assert fetched.exit_code == 1
    assert "recipe.toml, which is there already" in fetched.stderr
    assert (tmp_path / "there" / "recipe.toml").read_text("utf-8") == "# mine\n"
