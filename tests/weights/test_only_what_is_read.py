"""Only the files that are read are looked at; of those, whatever is wrong is named before a library is asked."""

from __future__ import annotations

import contextlib
import json
import shutil
import time

import pytest
from safetensors.torch import load_file, save_file

from nerveseg import backbones
from nerveseg.backbones import clip as clip_backbone
from nerveseg.backbones import dino as dino_backbone
from nerveseg.backbones import stable_diffusion
from nerveseg.errors import WeightsError
from nerveseg.weights import check, locate

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
PAGE = b"<!DOCTYPE html>\n<html><title>Sign in</title></html>"
STRAY = (
    "model (1).safetensors", "model.non_ema.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json", "model-00001-of-00002.safetensors", "old/model.safetensors",
    "old/model.safetensors.index.json", "model.safetensors.index.fp16.json", "model.fp16.safetensors", "flax_model.msgpack",
)  # fmt: skip


@pytest.fixture
def clip_copy(clip_folder, tmp_path):
    return shutil.copytree(clip_folder, tmp_path / "clip")


@pytest.mark.parametrize("name", STRAY)
@pytest.mark.parametrize("content", [LFS, b""], ids=["lfs", "empty"])
def test_what_is_not_read_does_not_matter(clip_copy, name, content):
    (clip_copy / name).parent.mkdir(exist_ok=True)
    (clip_copy / name).write_bytes(content)
    assert clip_backbone.load(locate(clip_copy, offline=True, kind="clip").path)
    assert check.broken(clip_copy, {}, ("config.json", "model.safetensors")) == ()


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.non_ema.safetensors", "safety_checker/model.safetensors", "v2.safetensors",
                                  "vae/diffusion_pytorch_model (1).safetensors", "unet/diffusion_pytorch_model.bin"])  # fmt: skip
def test_nor_in_the_parts_of_a_pipeline(diffusion_folder, tmp_path, name):
    folder = shutil.copytree(diffusion_folder, tmp_path / "sd")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(LFS)
    assert stable_diffusion.load(locate(folder, offline=True, kind="diffusion").path)


@pytest.mark.parametrize(
    ("content", "said"),
    [(LFS, "pointer of Git LFS.*git lfs pull"), (PAGE, "a web page"), (bytes(5000), "nothing but zeros"), (b"", "half a download")],
)
def test_what_is_read_and_is_something_else_is_named(clip_copy, content, said):
    (clip_copy / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"clip/model.safetensors.*{said}"):
        clip_backbone.load(clip_copy)


@pytest.mark.parametrize(
    ("content", "said"),
    [(LFS, "pointer of Git LFS"), (PAGE, "a web page"), (b"", "no JSON"), (b"[]", "no object"), (b"[" * 100_000, "no JSON"),
     (b"{\"a\": " + b"9" * 5001 + b"}", "no JSON"), (b"\xff\xfe", "no UTF-8"), (b"null", "no object")],
)  # fmt: skip
def test_a_configuration_that_is_none_is_named(clip_copy, content, said):
    (clip_copy / "config.json").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"clip/config.json.*{said}"):
        clip_backbone.load(clip_copy)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{}", b"[1]", b"nope", LFS, b"9" * 5001])
def test_a_list_of_trained_words_that_is_none_is_named(clip_copy, content):
    (clip_copy / "words.json").write_bytes(content)
    with pytest.raises(WeightsError, match=r"clip/words.json"):
        clip_backbone.load(clip_copy)


@pytest.mark.parametrize("part", ["vision_config", "text_config", None])
@pytest.mark.parametrize(
    ("knob", "value"),
    [("hidden_size", 10**9), ("hidden_size", 0), ("hidden_size", -8), ("num_hidden_layers", 10**6), ("num_hidden_layers", -1),
     ("patch_size", 0), ("patch_size", 1e300), ("image_size", 10**9), ("intermediate_size", 10**12), ("vocab_size", 10**9),
     ("num_attention_heads", 0), ("max_position_embeddings", 10**9), ("projection_dim", 10**9), ("num_channels", 10**8)],
)  # fmt: skip
def test_sizes_that_no_weight_has_are_refused_at_once(clip_copy, part, knob, value):
    path = clip_copy / "config.json"
    config = json.loads(path.read_text("utf-8"))
    (config if part is None else config[part])[knob] = value
    path.write_text(json.dumps(config), "utf-8")
    start = time.process_time()
    with pytest.raises(WeightsError, match=rf"clip/config.json with \S*{knob} = "):
        clip_backbone.load(clip_copy)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("value", ["x", None, [], {}, True, float("nan"), [1, 2, 3]])
@pytest.mark.parametrize("knob", ["hidden_size", "patch_size", "num_attention_heads", "num_hidden_layers"])
def test_other_values_of_a_configuration_are_our_errors_too(dino_folder, tmp_path, knob, value):
    folder = shutil.copytree(dino_folder, tmp_path / "dino")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, knob: value}), "utf-8")
    with contextlib.suppress(WeightsError):  # some of these the library reads as something; no other error leaves
        dino_backbone.load(folder)


def head(rows, size):
    text = json.dumps(rows).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


@pytest.mark.parametrize(
    ("rows", "size", "said"),
    [
        ({"a": ("F32", [2], [0, 8]), "b": ("F32", [2], [4, 12])}, 12, "one after the other"),
        ({"a": ("F32", [2], [0, 8]), "b": ("F32", [2], [12, 20])}, 20, "one after the other"),
        ({"a": ("F32", [3], [0, 8])}, 8, "one after the other"),
        ({"a": ("F32", [10**12], [0, 8])}, 8, "one after the other"),
        ({"a": ("F32", [-2], [0, 8])}, 8, "head cannot be read"),
        ({"a": ("F32", ["x"], [0, 8])}, 8, "head cannot be read"),
        ({"a": ("F32", [2], [0, 8, 9])}, 8, "head cannot be read"),
        ({"a": ("F32", [2], ["0", "8"])}, 8, "head cannot be read"),
        ({"a": ("F32", [2], [0, 10**300])}, 8, "half a download"),
        ({f"k{at}": ("F32", [0], [0, 0]) for at in range(150_000)}, 0, "150,000 tensors"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_heads_that_mislead_are_refused_at_once(tmp_path, rows, size, said):
    path = tmp_path / "model.safetensors"
    path.write_bytes(head({key: dict(zip(("dtype", "shape", "data_offsets"), row, strict=True)) for key, row in rows.items()}, size))
    start = time.process_time()
    with pytest.raises(WeightsError, match=said):
        check.tensors(path)
    assert time.process_time() - start < 5


def test_a_head_of_a_million_names_is_not_even_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes((40 << 20).to_bytes(8, "little") + b" " * (41 << 20))
    with pytest.raises(WeightsError, match="head cannot be read"):
        check.tensors(path)
    path.write_bytes((40).to_bytes(8, "little") + b"[" * 40)
    with pytest.raises(WeightsError, match="head cannot be read"):
        check.tensors(path)


@pytest.mark.parametrize(
    "content",
    [b"{}", b"[]", b'{"weight_map": [1]}', b'{"weight_map": {"a": 3}}', b'{"weight_map": {"a": "../x.safetensors"}}', LFS, b"[" * 100_000],
)
def test_an_index_that_is_none_is_named(clip_copy, content):
    (clip_copy / "model.safetensors").unlink()
    (clip_copy / "model.safetensors.index.json").write_bytes(content)
    with pytest.raises(WeightsError, match=r"model.safetensors.index.json"):
        locate(clip_copy, offline=True, kind="clip")


def test_shards_are_those_of_the_index_and_no_other(clip_copy):
    tensors = load_file(clip_copy / "model.safetensors")
    (clip_copy / "model.safetensors").unlink()
    save_file(tensors, clip_copy / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
    (clip_copy / "model-00001-of-00003.safetensors").write_bytes(LFS)  # of an older release
    rows = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, "model-00001-of-00001.safetensors")}
    (clip_copy / "model.safetensors.index.json").write_text(json.dumps(rows), "utf-8")
    assert backbones.load("clip", locate(clip_copy, offline=True, kind="clip").path)
    (clip_copy / "model-00001-of-00001.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"without model-00001-of-00001.safetensors"):
        locate(clip_copy, offline=True, kind="clip")
