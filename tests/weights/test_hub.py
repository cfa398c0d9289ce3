"""Downloads, against a stand-in for the hub's file endpoints that serves random checkpoints of the full layout."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil

import pytest
import torch
from huggingface_hub import file_download

from nerveseg.backbones import clip as clip_backbone
from nerveseg.backbones import stable_diffusion
from nerveseg.errors import WeightsError, WeightsNotFound
from nerveseg.weights import catalogue, check, download, fetch, locate, plan, present

CLIP, SD = "openai/clip-vit-base-patch16", ("stabilityai", "sd2-community", "Manojb")
UNET = "unet/diffusion_pytorch_model.safetensors"

_LITTER = (
    "README.md", "model_index.json",
    "v2-1_512-ema-pruned.ckpt", "v2-1_512-ema-pruned.safetensors",
    "optimizer.pt", "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.non_ema.safetensors", "vae/diffusion_pytorch_model.msgpack",
    "text_encoder/pytorch_model.bin", "text_encoder/tf_model.h5",
    "safety_checker/config.json", "safety_checker/model.safetensors",
    "feature_extractor/preprocessor_config.json",
)  # fmt: skip


def sd(owner):
    return f"{owner}/stable-diffusion-2-1-base"


def without(folder, name):
    (folder / name).unlink()
    return folder


@pytest.fixture(autouse=True)
def _retries_are_quick(monkeypatch):
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)


@pytest.fixture(scope="session")
def littered(diffusion_folder, tmp_path_factory):
    """The diffusion model as published pages hold it: beside what is needed lies three times as much that is not."""
    folder = shutil.copytree(diffusion_folder, tmp_path_factory.mktemp("page") / "sd")
    for name in _LITTER:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not needed")
    return folder


def test_mirrors_are_tried_in_order_and_only_what_is_needed_is_asked_for(hub, littered, diffusion):
    hub.add(sd(SD[1]), littered)
    hub.add(sd(SD[2]), littered)
    found = fetch("sd-2.1-base")
    assert found.source == f"hub: {sd(SD[1])} at main"
    assert list(dict.fromkeys(hub.ids())) == [sd(SD[0]), sd(SD[1])]
    wanted = {
        "unet/config.json", UNET, "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json",
        "text_encoder/config.json", "text_encoder/model.safetensors", "tokenizer/vocab.json", "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json", "tokenizer/special_tokens_map.json",
    }  # fmt: skip
    assert sorted(hub.downloads()) == sorted(wanted)  # each once
    assert check.contents(found.path) == wanted
    torch.testing.assert_close(stable_diffusion.load(found.path).prompt, diffusion.prompt)


def test_the_plan_knows_every_byte_before_the_first_is_asked_for(hub, littered):
    hub.add(sd(SD[0]), littered)
    before = plan("sd-2.1-base")
    assert hub.downloads() == []
    arrived = []
    folder = before.carry_out(said=arrived.append)
    assert before.bytes == before.bytes_left == folder.bytes
    assert sum(arrived) == before.bytes
    assert len(arrived) > 20
    assert plan("sd-2.1-base").bytes_left == 0


def test_what_is_here_whole_is_not_asked_for_again(hub, clip_folder):
    hub.add(CLIP, clip_folder)
    first = fetch("clip-b16")
    asked = len(hub.asked)
    assert fetch("clip-b16").path == locate("clip-b16", offline=False).path == first.path
    assert len(hub.asked) == asked


def test_a_connection_cut_mid_file_is_gone_on_with(hub, clip_folder):
    hub.add(CLIP, clip_folder)
    hub.cuts["model.safetensors"] = 5000
    folder = fetch("clip-b16")
    ranges = [asked for method, path, asked in hub.asked if "/store/" in path and method == "GET"]
    assert ranges == [None, "bytes=4096-"]  # what was written in whole pieces
    assert (folder.path / "model.safetensors").read_bytes() == (clip_folder / "model.safetensors").read_bytes()


def test_a_download_that_was_given_up_goes_on_in_the_next_run(hub, clip_folder, monkeypatch):
    hub.add(CLIP, clip_folder)

    hub.cuts["model.safetensors"] = 9000
    monkeypatch.setattr(file_download.time, "sleep", lambda _: hub.down.add("model.safetensors"))  # and nobody answers the retry
    with pytest.raises(WeightsError, match=r"no more of clip-b16 from openai/clip-vit-base-patch16.*goes on where it was cut off"):
        fetch("clip-b16")
    assert present("clip-b16") is None
    left = plan("clip-b16")
    assert left.bytes - left.bytes_left == 8192
    hub.down.clear()
    hub.asked.clear()
    folder = fetch("clip-b16")
    assert [asked for _, path, asked in hub.asked if "/store/" in path] == ["bytes=8192-"]
    assert (folder.path / "model.safetensors").read_bytes() == (clip_folder / "model.safetensors").read_bytes()
    assert not [path for path in folder.path.parents[1].rglob("*") if "part" in path.name]


def test_content_that_is_not_what_the_hub_says_is_refused_and_deleted(hub, clip_folder, tmp_path):
    hub.add(CLIP, clip_folder)
    good = (clip_folder / "model.safetensors").read_bytes()
    hub.lies["model.safetensors"] = good[:-1] + bytes([good[-1] ^ 1])
    with pytest.raises(
        WeightsError, match=r"Got model.safetensors of openai/clip-vit-base-patch16 with the sha256 [0-9a-f]{64}. Accepted is"
    ):
        fetch("clip-b16")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size == len(good)]
    hub.lies.clear()
    assert fetch("clip-b16").path.is_dir()


def test_a_digest_of_the_catalogue_is_checked_and_the_file_named(hub, clip_folder, monkeypatch):
    hub.add(CLIP, clip_folder)
    row = dataclasses.replace(catalogue()["clip-b16"], digests={"model.safetensors": "0" * 64})
    monkeypatch.setattr(download, "find", lambda _: row)
    with pytest.raises(WeightsError, match=r"Got model.safetensors of openai/.* Accepted is 0{64}, which the catalogue states"):
        fetch("clip-b16")
    right = hashlib.sha256((clip_folder / "model.safetensors").read_bytes()).hexdigest()
    row = dataclasses.replace(row, digests={"model.safetensors": right})
    assert plan("clip-b16").carry_out().row is row


def test_offline_never_asks(hub, clip_folder):
    hub.add(CLIP, clip_folder)
    with pytest.raises(
        WeightsNotFound, match=r"0.6 GB, licence MIT.*the hub's cache on this machine.*nerveseg weights fetch clip-b16.*'mini'"
    ):
        locate("clip-b16", offline=True)
    with pytest.raises(WeightsNotFound, match="not in the catalogue"):
        locate("somebody/else", offline=True)
    assert hub.asked == []
    fetched = fetch("clip-b16")
    hub.asked.clear()
    assert locate("clip-b16", offline=True, kind="clip").path == locate(CLIP, offline=True).path == fetched.path
    assert hub.asked == []


def test_half_a_cache_is_not_taken_for_a_whole_one(hub, clip_folder):
    hub.add(CLIP, clip_folder)
    fetched = fetch("clip-b16")
    (fetched.path / "merges.txt").unlink()
    with pytest.raises(WeightsNotFound, match=r"its cache lacks tokenizer.json \| merges.txt"):
        locate("clip-b16", offline=True)
    assert locate("clip-b16", offline=False).path == fetched.path


def test_caches_of_all_mirrors_come_before_the_network(hub, littered):
    hub.add(sd(SD[2]), littered)
    fetch("sd-2.1-base")
    hub.asked.clear()
    hub.add(sd(SD[0]), littered)
    assert locate("sd-2.1-base", offline=False).source == f"hub: {sd(SD[2])} at main"
    assert hub.asked == []


def test_nobody_answers(hub):
    with pytest.raises(WeightsNotFound, match=r"stabilityai/.*: RepositoryNotFoundError; sd2-community/.*: Repo.*Manojb/.*: Repo"):
        fetch("sd-2.1-base")


def test_a_page_that_lacks_a_file_is_passed_over(hub, littered, tmp_path):
    hub.add(sd(SD[0]), without(shutil.copytree(littered, tmp_path / "a"), "tokenizer/merges.txt"))
    hub.add(sd(SD[1]), littered)
    assert plan("sd-2.1-base").page.hub_id == sd(SD[1])
    del hub.pages[sd(SD[1]), "main"]
    with pytest.raises(WeightsNotFound, match=r"stabilityai/\S+: lacks tokenizer/tokenizer.json \| tokenizer/merges.txt"):
        plan("sd-2.1-base")


@pytest.fixture(scope="session")
def many_forms(clip_folder, diffusion_folder, tmp_path_factory):
    """The same CLIP and the same diffusion model in shards, in float16, and in shards of float16."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from safetensors.torch import load_file, save_file
    from transformers.models.clip.modeling_clip import CLIPModel

    root, made = tmp_path_factory.mktemp("forms"), {}
    for name, size, dtype in (("shards", "40KB", None), ("fp16", "1GB", torch.float16), ("fp16 shards", "20KB", torch.float16)):
        variant = "fp16" if dtype else None
        folder = without(shutil.copytree(clip_folder, root / f"clip {name}"), "model.safetensors")
        CLIPModel.from_pretrained(clip_folder, dtype=dtype).save_pretrained(folder, max_shard_size=size, variant=variant)
        made["clip", name] = folder
        folder = without(shutil.copytree(diffusion_folder, root / f"sd {name}"), UNET)
        unet = UNet2DConditionModel.from_pretrained(diffusion_folder / "unet", torch_dtype=dtype)
        unet.save_pretrained(folder / "unet", max_shard_size="300KB" if "shards" in name else "1GB", variant=variant)
        if dtype:
            for short in ("vae/diffusion_pytorch_model", "text_encoder/model"):
                tensors = {key: value.half() for key, value in load_file(folder / f"{short}.safetensors").items()}
                save_file(tensors, folder / f"{short}.fp16.safetensors", metadata={"format": "pt"})
                without(folder, f"{short}.safetensors")
        made["sd", name] = folder
    return made


@pytest.mark.parametrize("form", ["shards", "fp16", "fp16 shards"])
def test_shards_and_float16_are_found_fetched_and_loaded(hub, many_forms, form, clip, diffusion):
    hub.add(CLIP, many_forms["clip", form])
    hub.add(sd(SD[0]), many_forms["sd", form])
    folder = fetch("clip-b16")
    names = [name for name in check.contents(folder.path) if name.endswith(".safetensors")]
    assert (len(names) > 1) == ("shards" in form)
    close = {"atol": 2e-3, "rtol": 2e-3} if "fp16" in form else {"atol": 0, "rtol": 0}
    mine, theirs = (model.model.state_dict() for model in (clip_backbone.load(folder.path), clip))
    for name, value in theirs.items():
        assert mine[name].dtype == value.dtype
        torch.testing.assert_close(mine[name], value, **close)
    read = stable_diffusion.load(fetch("sd-2.1-base").path)
    for name, value in diffusion.unet.state_dict().items():
        torch.testing.assert_close(read.unet.state_dict()[name], value, **close)
    assert locate("sd-2.1-base", offline=True).path


def test_half_takes_the_float16_files_alone_and_half_the_bytes(hub, many_forms, clip_folder, tmp_path):
    both = shutil.copytree(many_forms["clip", "fp16"], tmp_path / "both")
    shutil.copy(clip_folder / "model.safetensors", both)
    hub.add(CLIP, both)
    full, half = plan("clip-b16"), plan("clip-b16", half=True)
    assert "model.safetensors" in full.files
    assert "model.fp16.safetensors" not in full.files
    assert "model.fp16.safetensors" in half.files
    assert "model.safetensors" not in half.files
    assert half.bytes < full.bytes
    folder = fetch("clip-b16", half=True)
    assert present("clip-b16", half=True)
    assert present("clip-b16") is None  # the full one is still to be had
    assert locate("clip-b16", offline=True).path == folder.path  # and float16 will do where nothing else is there
    assert fetch("clip-b16").path == folder.path
    assert "model.safetensors" in check.contents(folder.path)


def test_half_takes_the_full_files_where_a_mirror_has_no_others(hub, clip_folder):
    hub.add(CLIP, clip_folder)
    assert "model.safetensors" in check.contents(fetch("clip-b16", half=True).path)


@pytest.fixture
def old_page(clip_folder, tmp_path):
    folder = without(shutil.copytree(clip_folder, tmp_path / "old"), "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    return folder


def test_pickles_are_refused_with_the_reason_and_never_asked_for(hub, old_page):
    hub.add(CLIP, old_page)
    with pytest.raises(
        WeightsNotFound, match=r"pickles only \(pytorch_model.bin\); reading a pickle can run any code.*Accepted are .safetensors"
    ):
        fetch("clip-b16")
    assert hub.downloads() == []


def test_what_the_hubs_own_bot_converted_is_taken_from_its_pull_request(hub, old_page, clip_folder, clip):
    hub.add(CLIP, old_page)
    hub.add(CLIP, clip_folder, "refs/pr/7")
    hub.offer(CLIP, 7, author="somebody")
    with pytest.raises(WeightsNotFound, match="pickles only"):
        fetch("clip-b16")
    hub.offer(CLIP, 7)
    folder = fetch("clip-b16")
    assert folder.source == f"hub: {CLIP} at refs/pr/7"
    assert "pytorch_model.bin" not in check.contents(folder.path)
    assert torch.equal(clip_backbone.load(folder.path).model.visual_projection.weight, clip.model.visual_projection.weight)
    hub.asked.clear()
    assert locate("clip-b16", offline=True).path == folder.path
    assert fetch("clip-b16").path == folder.path
    assert hub.asked == []


def test_one_mirror_may_have_a_revision_of_its_own(hub, clip_folder, monkeypatch):
    hub.add(CLIP, clip_folder, "refs/pr/3")
    row = dataclasses.replace(catalogue()["clip-b16"], revisions={CLIP: "refs/pr/3"})
    monkeypatch.setattr(download, "find", lambda _: row)
    assert fetch("clip-b16").source == f"hub: {CLIP} at refs/pr/3"


def test_a_named_mirror_and_revision_come_first(hub, littered):
    hub.add(sd(SD[2]), littered, "abc")
    found = fetch(sd(SD[2]), revision="abc")
    assert found.source == f"hub: {sd(SD[2])} at abc"
    assert found.row == catalogue()["sd-2.1-base"]
    assert hub.ids()[0] == sd(SD[2])


def test_ids_outside_the_catalogue_bring_what_their_kind_needs(hub, littered, clip_folder):
    hub.add("somebody/sd", littered)
    hub.add("somebody/clip", clip_folder)
    assert "safety_checker/model.safetensors" not in check.contents(fetch("somebody/sd").path)
    folder = fetch("somebody/clip")
    assert {"config.json", "model.safetensors", "vocab.json", "merges.txt"} <= check.contents(folder.path)
    assert clip_backbone.load(folder.path)
    assert locate("somebody/clip", offline=True, kind="clip").row is None


def test_the_token_stays_with_the_hub(hub, clip_folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.add(CLIP, clip_folder)
    fetch("clip-b16")
    assert ("Bearer hf_secret" in {token for host, token in hub.tokens if host.startswith("127.0.0.1")}) is True
    assert {token for host, token in hub.tokens if host.startswith("localhost")} == {None}


def test_a_full_disk_is_told_before_the_download(hub, clip_folder, monkeypatch):
    hub.add(CLIP, clip_folder)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(WeightsError, match=r"room in .*clip-b16 needs .* GB more.*HF_HUB_CACHE"):
        fetch("clip-b16")
    assert hub.downloads() == []


def test_parts_larger_than_the_file_are_started_anew(hub, clip_folder, tmp_path):
    hub.add(CLIP, clip_folder)
    found = plan("clip-b16")
    blobs = tmp_path / "cache" / "models--openai--clip-vit-base-patch16" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{found.page.files['model.safetensors'].blob}.nerveseg-part").write_bytes(b"x" * 10_000_000)
    assert fetch("clip-b16").bytes == found.bytes
