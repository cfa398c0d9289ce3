"""Folders that cannot be used: what is said names the file, the weight, and the shape expected and found."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from nerveseg.backbones import clip as clip_backbone
from nerveseg.backbones import stable_diffusion
from nerveseg.errors import WeightsError
from nerveseg.weights import check, locate

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def clip_copy(clip_folder, tmp_path):
    return shutil.copytree(clip_folder, tmp_path / "clip")


@pytest.fixture
def sd_copy(diffusion_folder, tmp_path):
    return shutil.copytree(diffusion_folder, tmp_path / "sd")


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def test_weights_of_another_width_name_file_weight_and_shapes(clip_copy):
    config = json.loads((clip_copy / "config.json").read_text("utf-8"))
    changed(clip_copy / "config.json", projection_dim=36)
    with pytest.raises(WeightsError) as caught:
        clip_backbone.load(clip_copy)
    message = str(caught.value)
    width = config["vision_config"]["hidden_size"]
    file = clip_copy / "model.safetensors"
    assert (
        f"{file} whose weight visual_projection.weight has the shape (20, {width}) where {clip_copy / 'config.json'} asks for (36, {width})"
        in message
    )


def test_a_u_net_of_another_width_does_too(sd_copy):
    changed(sd_copy / "unet" / "config.json", cross_attention_dim=16)
    said = (
        r"unet/diffusion_pytorch_model.safetensors whose weight \S*attn2.to_k.weight has the shape \(20, 24\) "
        r"where \S*unet/config.json asks for \(20, 16\)"
    )
    with pytest.raises(WeightsError, match=said):
        stable_diffusion.load(sd_copy)


def test_another_architecture_is_named(sd_copy, clip_copy, tmp_path):
    changed(clip_copy / "config.json", model_type="dinov2")
    with pytest.raises(WeightsError, match=r"clip/config.json, which names the architecture 'dinov2'. Accepted is 'clip'"):
        clip_backbone.load(clip_copy)
    shutil.copy(sd_copy / "vae" / "config.json", sd_copy / "unet" / "config.json")
    with pytest.raises(
        WeightsError, match=r"unet/config.json, which names the architecture 'AutoencoderKL'. Accepted is 'UNet2DConditionModel'"
    ):
        stable_diffusion.load(sd_copy)


def test_a_lost_weight_is_named_with_its_shape(sd_copy):
    tensors = load_file(sd_copy / UNET)
    del tensors["conv_in.weight"]
    save_file(tensors, sd_copy / UNET, metadata={"format": "pt"})
    said = (
        r"unet/diffusion_pytorch_model.safetensors without 1 of \d+ weights of UNet2DConditionModel, such as "
        r"conv_in.weight of shape \(20, 4, 3, 3\)"
    )
    with pytest.raises(WeightsError, match=said):
        stable_diffusion.load(sd_copy)


@pytest.mark.parametrize(
    ("keep", "said"),
    [(20_000, r"of 20000 bytes where its head states \d+"), (100, "whose head cannot be read"), (3, "head cannot be read")],
)
def test_half_a_download_is_named_with_its_sizes(clip_copy, keep, said):
    cut(clip_copy / "model.safetensors", keep)
    with pytest.raises(WeightsError, match=rf"clip/model.safetensors .*{said}.*[Hh]alf a download.*Fetch it again"):
        clip_backbone.load(clip_copy)
    assert "model.safetensors" in check.broken(clip_copy, {})[0]


def test_what_is_no_safetensors_file_is_told(clip_copy):
    (clip_copy / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 3)
    with pytest.raises(WeightsError, match=r"pointer of Git LFS.*git lfs pull"):
        clip_backbone.load(clip_copy)


def test_a_wrong_digest_names_the_file(clip_copy):
    assert check.broken(clip_copy, {}) == ()
    (said,) = check.broken(clip_copy, {"model.safetensors": "0" * 64})
    assert said.startswith(f"{(clip_copy / 'model.safetensors').resolve()} (model.safetensors) has the digest ")
    assert said.endswith("expected is " + "0" * 64)


def test_files_of_the_hubs_cache_are_held_to_the_digests_that_name_them(clip_copy, tmp_path):
    import hashlib

    (tmp_path / "blobs").mkdir()
    for name, kind in (("model.safetensors", "sha256"), ("config.json", "git")):
        data = (clip_copy / name).read_bytes()
        digest = hashlib.sha256(data) if kind == "sha256" else hashlib.sha1(f"blob {len(data)}\0".encode() + data)
        blob = tmp_path / "blobs" / digest.hexdigest()
        shutil.move(clip_copy / name, blob)
        (clip_copy / name).symlink_to(blob)
    assert check.broken(clip_copy, {}) == ()
    with (clip_copy / "config.json").open("a") as stream:
        stream.write(" ")
    (said,) = check.broken(clip_copy, {})
    assert said.startswith(f"{(clip_copy / 'config.json').resolve()} (config.json) has the digest")


@pytest.mark.parametrize("lost", ["merges.txt", "vocab.json"])
def test_a_missing_tokenizer_is_named(clip_copy, sd_copy, lost):
    (clip_copy / lost).unlink()
    with pytest.raises(WeightsError, match=rf"clip without tokenizer.json \| {lost}"):
        locate(clip_copy, offline=True, kind="clip")
    with pytest.raises(WeightsError, match=rf"clip without tokenizer.json \| {lost}"):
        clip_backbone.load(clip_copy)
    (sd_copy / "tokenizer" / lost).unlink()
    with pytest.raises(WeightsError, match=rf"sd without tokenizer/tokenizer.json \| tokenizer/{lost}"):
        stable_diffusion.load(sd_copy)
    with pytest.raises(WeightsError, match=rf"tokenizer/{lost} \| empty_prompt.safetensors"):
        locate(sd_copy, offline=True, kind="diffusion")


def test_pickles_only_are_refused_with_the_reason_and_the_way_out(clip_copy, sd_copy):
    torch.save({}, clip_copy / "pytorch_model.bin")
    assert clip_backbone.load(clip_copy)  # beside safetensors they are not looked at
    (clip_copy / "model.safetensors").unlink()
    for read in (clip_backbone.load, lambda folder: locate(folder, offline=True, kind="clip")):
        with pytest.raises(
            WeightsError, match=r"pickles only \(pytorch_model.bin\); reading a pickle can run any code.*safetensors.torch.save_file"
        ):
            read(clip_copy)
    (sd_copy / UNET).rename(sd_copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"unet with weights as pickles only"):
        stable_diffusion.load(sd_copy)
    with pytest.raises(WeightsError, match=r"pickles only \(unet/diffusion_pytorch_model.bin\)"):
        locate(sd_copy, offline=True, kind="diffusion")


def test_a_file_where_a_folder_belongs_is_told(clip_copy, tmp_path):
    with pytest.raises(
        WeightsError, match=r"model.safetensors, which is a file. One file for a whole pipeline is not read.*Accepted is a folder"
    ):
        locate(clip_copy / "model.safetensors", offline=True)
    with pytest.raises(WeightsError, match=r"config.json, which is a file. Accepted is a folder"):
        locate(clip_copy / "config.json", offline=True)
    (tmp_path / "v1-5-pruned.ckpt").write_bytes(b"\x80")
    with pytest.raises(WeightsError, match=r"v1-5-pruned.ckpt with weights as pickles only"):
        locate(tmp_path / "v1-5-pruned.ckpt", offline=True)


def test_a_lost_shard_is_named(clip_copy):
    from transformers.models.clip.modeling_clip import CLIPModel

    model = CLIPModel.from_pretrained(clip_copy)
    (clip_copy / "model.safetensors").unlink()
    model.save_pretrained(clip_copy, max_shard_size="40KB")
    lost = sorted(clip_copy.glob("model-*.safetensors"))[1]
    lost.unlink()
    for read in (clip_backbone.load, lambda folder: locate(folder, offline=True, kind="clip")):
        with pytest.raises(WeightsError, match=rf"clip without {lost.name}"):
            read(clip_copy)
    (clip_copy / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(WeightsError, match=r"model.safetensors.index.json, which is no index of shards"):
        clip_backbone.load(clip_copy)


def test_an_index_that_is_not_read_is_not_held_against_a_folder(clip_copy):
    (clip_copy / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00001.safetensors"}}')
    assert locate(clip_copy, offline=True, kind="clip").path == clip_copy
    assert clip_backbone.load(clip_copy)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "clip"}, "clip"),
        ({"model_type": "vit"}, "dino"),
        ({"_class_name": "AutoencoderTiny"}, "taesd"),
        ({}, None),
        ([], None),
    ],
)
def test_a_folder_says_its_kind(tmp_path, diffusion_folder, config, kind):
    assert check.kind_of(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert check.kind_of(tmp_path) == kind
    assert check.kind_of(diffusion_folder) == "diffusion"


def test_one_tokenizer_file_is_enough(tmp_path):
    """Published pages hold ``tokenizer.json`` beside the older pair; it alone is fetched."""
    whole = locate("embedded:clip", offline=True).path
    few = shutil.copytree(whole, tmp_path / "few", ignore=shutil.ignore_patterns("vocab.json", "merges.txt"))
    words = ["cat", "a photo of a dog", "Straße 猫"]
    mine, theirs = (clip_backbone.load(folder).tokenizer(words)["input_ids"] for folder in (few, whole))
    assert mine == theirs
