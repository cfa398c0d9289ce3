"""``nerveseg weights``, against a stand-in for the hub."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

CLIP, SD = "openai/clip-vit-large-patch14-336", "stabilityai/stable-diffusion-2-1-base"


@pytest.fixture
def published(hub, clip_folder, diffusion_folder):
    hub.add(CLIP, clip_folder)
    hub.add(SD, diffusion_folder)
    return hub


def rows(result):
    return {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}


def test_list_says_what_is_here_where_how_large_and_under_which_licence(run, published):
    before = rows(run("weights", "list", "--json"))
    assert before["embedded:clip"]["path"]
    assert before["embedded:clip"]["bytes_here"] > 1_000_000
    assert before["clip-l14-336"]["path"] is None
    assert before["clip-l14-336"]["bytes"] == 1_710_000_000
    assert before["metaclip-b16"]["licence"] == "CC-BY-NC-4.0"
    assert before["sd-2.1-base"]["ids"][0] == SD
    assert published.asked == []
    assert run("weights", "fetch", "clip-l14-336").exit_code == 0
    after = rows(run("weights", "list", "--json"))["clip-l14-336"]
    assert after["source"] == f"hub: {CLIP} at main"
    assert 0 < after["bytes_here"] < 1_000_000
    shown = run("weights", "list").stdout
    for word in ("licence", "CreativeML Open RAIL++-M", "no: not in the hub's cache", "5.2 GB", "NVIDIA"):
        assert word in shown


def test_fetch_says_bytes_and_licences_before_it_starts(run, published):
    result = run("weights", "fetch", "nerve")
    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 3  # no bars without a terminal
    assert lines[0].startswith("fetching: clip-l14-336: ")
    assert f"kB in 7 files from {CLIP}, licence MIT" in lines[0]
    assert f"from {SD}, licence CreativeML Open RAIL++-M" in lines[1]
    assert lines[2].startswith("fetching: ")
    assert lines[2].endswith(" in all")
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["clip-l14-336", "sd-2.1-base"]
    published.asked.clear()
    again = run("weights", "fetch", "nerve", "clip-l14-336")
    assert (again.stdout, again.stderr, published.asked) == (result.stdout, "", [])


def test_fetch_goes_on_where_it_was_cut_off_and_says_so(run, published, monkeypatch):
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda _: published.down.add("model.safetensors"))
    published.cuts["model.safetensors"] = 9000
    cut = run("weights", "fetch", "clip-l14-336")
    assert cut.exit_code == 1
    assert cut.stderr.splitlines()[-1].startswith("error: Got no more of clip-l14-336")
    published.down.clear()
    result = run("weights", "fetch", "clip-l14-336")
    assert result.exit_code == 0, result.stderr
    assert "(8 kB of them here already)" in result.stderr


def test_half_takes_less(run, published, clip_folder, tmp_path):
    from transformers.models.clip.modeling_clip import CLIPModel

    both = shutil.copytree(clip_folder, tmp_path / "both")
    CLIPModel.from_pretrained(both).half().save_pretrained(both, variant="fp16")
    published.add(CLIP, both)
    assert run("weights", "fetch", "clip-l14-336", "--half").exit_code == 0
    assert "model.fp16.safetensors" in published.downloads()
    assert "model.safetensors" not in published.downloads()
    assert run("weights", "verify", "clip-l14-336").exit_code == 0


def test_a_recipe_of_the_embedded_pair_needs_no_download(run, published):
    result = run("weights", "fetch", "mini")
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["embedded:clip", "embedded:diffusion"]
    assert (result.exit_code, published.asked) == (0, [])


def test_what_cannot_be_fetched(run, hub):
    result = run("weights", "fetch", "nerve")
    assert result.exit_code == 1
    for word in ("1.7 GB, licence MIT", "RepositoryNotFoundError", "'mini'"):
        assert word in result.stderr
    unknown = run("weights", "fetch", "no-such-thing")
    assert unknown.exit_code == 1
    assert "Accepted are a recipe, a hub id owner/name, or one of embedded:clip" in unknown.stderr


def test_verify_reads_everything_and_loads_it(run, published):
    result = run("weights", "verify", "mini")
    assert result.exit_code == 0, result.stderr
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["embedded:clip", "embedded:diffusion"]
    assert "sha256:" in result.stdout
    assert run("weights", "verify", "sd-2.1-base").exit_code == 1  # not here
    run("weights", "fetch", "nerve")
    published.asked.clear()
    assert [line.split("\t")[0] for line in run("weights", "verify").stdout.splitlines()][2:] == ["clip-l14-336", "sd-2.1-base"]
    assert published.asked == []


def test_verify_names_the_file_whose_digest_is_wrong(run, published):
    folder = run("weights", "fetch", "clip-l14-336").stdout.split("\t")[1].strip()
    path = f"{folder}/model.safetensors"
    with Path(path).open("r+b") as stream:
        stream.seek(-1, 2)
        last = stream.read(1)
        stream.seek(-1, 2)
        stream.write(bytes([last[0] ^ 1]))
    result = run("weights", "verify", "clip-l14-336")
    assert result.exit_code == 1
    assert f"clip-l14-336: {Path(path).resolve()} (model.safetensors) has the digest" in result.stderr
    assert "fetch clip-l14-336 again" in result.stderr
    with Path(path).open("r+b") as stream:
        stream.truncate(5000)
    assert "half a download" in run("weights", "verify", "clip-l14-336").stderr
    Path(path).resolve().unlink()  # as it is told to
    assert run("weights", "fetch", "clip-l14-336").exit_code == 0
    assert run("weights", "verify", "clip-l14-336").exit_code == 0


def test_verify_takes_folders(run, clip_folder, hub):
    assert run("weights", "verify", clip_folder).stdout.startswith(f"{clip_folder}\tsha256:")


def test_a_recipe_may_name_folders_beside_itself(run, clip_folder, hub, tmp_path):
    shutil.copytree(clip_folder, tmp_path / "ours" / "clip")
    (tmp_path / "ours" / "recipe.toml").write_text('[weights]\nclip = "./clip"\n')
    for verb in ("fetch", "verify"):
        result = run("weights", verb, "ours")
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith("ours/clip\t")
    assert hub.asked == []


def test_on_a_terminal_a_bar_follows_the_bytes(run, published, monkeypatch):
    from rich.console import Console

    from nerveseg.cli import weights

    monkeypatch.setattr(weights, "talk", lambda: Console(stderr=True, force_terminal=True, width=120, color_system=None))
    result = run("weights", "fetch", "clip-l14-336")
    assert result.exit_code == 0, result.stderr
    assert re.search(r"clip-l14-336 ━+ ([\d.]+)/\1 kB", result.stderr)
