from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from torch.nn import functional as F

from nerveseg.backbones import clip as backbone
from nerveseg.errors import ShapeError, WeightsError


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def library_embedding(clip, pixels, **more):
    return clip.model.get_image_features(pixel_values=pixels, **more).pooler_output[0]


def test_last_block_left_intact_gives_the_librarys_image_embedding_at_token_0(clip, pixels):
    seen = clip.vision(pixels)
    x = seen.inputs[-1]
    whole = clip.last_block(x, clip.own_attention(x), residual=True, ffn=True)
    torch.testing.assert_close(whole, seen.output, atol=1e-5, rtol=1e-5)
    for y in (whole, seen.output):
        torch.testing.assert_close(clip.project(y)[0], library_embedding(clip, pixels), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("patch", "side", "shape"), [(14, 56, (56, 84)), (16, 64, (96, 64)), (8, 64, (40, 64))])
def test_bicubic_positions_equal_the_librarys_on_any_grid(checkpoints, tmp_path, patch, side, shape):
    clip = backbone.load(checkpoints.make_clip(tmp_path, patch=patch, layers=2, side=side))
    pixels = torch.randn(1, 3, *shape)
    seen = clip.vision(pixels, positions="bicubic")
    assert seen.grid == (shape[0] // patch, shape[1] // patch)
    expected = library_embedding(clip, pixels, interpolate_pos_encoding=True)
    torch.testing.assert_close(clip.project(seen.output)[0], expected, atol=1e-5, rtol=1e-5)


def test_inputs_are_the_librarys_hidden_states(clip, pixels):
    states = clip.model.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
    seen = clip.vision(pixels)
    assert len(seen.inputs) == 4
    for ours, theirs in zip((*seen.inputs, seen.output), states, strict=True):
        torch.testing.assert_close(ours, theirs[0])


def test_attention_is_the_sum_of_all_blocks_but_the_last(clip_folder, pixels):
    from transformers.models.clip.modeling_clip import CLIPModel

    eager = CLIPModel.from_pretrained(clip_folder, local_files_only=True, attn_implementation="eager").eval()
    with torch.no_grad():
        maps = eager.vision_model(pixel_values=pixels, output_attentions=True).attentions
    seen = backbone.load(clip_folder).vision(pixels, attention=True)
    torch.testing.assert_close(seen.attention, torch.stack(maps[:-1]).sum(0)[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen.attention.sum(-1), torch.full((4, 17), 3.0))


def test_a_batch_equals_its_loop(clip):
    pixels = torch.randn(3, 3, 64, 48)
    for one, many in zip((clip.vision(p[None], attention=True) for p in pixels), clip.visions(pixels, attention=True), strict=True):
        torch.testing.assert_close(one.output, many.output, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.attention, many.attention, atol=1e-5, rtol=1e-5)


def test_value_path_is_the_identity_mixing(clip, pixels):
    x = clip.vision(pixels).inputs[-1]
    identity = torch.eye(len(x)).expand(clip.heads, -1, -1)
    for residual in (True, False):
        torch.testing.assert_close(
            clip.last_block(x, None, residual=residual, ffn=residual), clip.last_block(x, identity, residual=residual, ffn=residual)
        )


@pytest.mark.parametrize("mode", backbone.POSITIONS)
def test_positions_are_untouched_on_their_own_grid_and_keep_the_class_token(mode):
    weight = torch.randn(17, 6)
    assert backbone.resize_positions(weight, (4, 4), mode) is weight
    resized = backbone.resize_positions(weight, (3, 7), mode)
    assert resized.shape == (22, 6)
    assert torch.equal(resized[0], weight[0])


def test_bilinear_positions_go_by_size():
    weight = torch.cat([torch.zeros(1, 1), torch.arange(4.0).view(2, 2).flatten()[:, None]])
    expected = F.interpolate(torch.arange(4.0).view(1, 1, 2, 2), size=(3, 5), mode="bilinear", align_corners=False).flatten()
    torch.testing.assert_close(backbone.resize_positions(weight, (3, 5), "bilinear")[1:, 0], expected)


def test_offset_positions_sample_beside_the_sized_ones():
    weight = torch.randn(17, 2)
    sized, offset = (backbone.resize_positions(weight, (8, 8), mode) for mode in ("bicubic", "bicubic-offset"))
    assert 0 < (sized - offset).abs().max() < 0.5


def test_antialiased_positions_smooth_where_the_grid_shrinks_and_are_bicubic_where_it_grows():
    weight = torch.randn(65, 2)
    small, plain = (backbone.resize_positions(weight, (4, 4), mode)[1:] for mode in ("bicubic-antialias", "bicubic"))
    assert float(small.std()) < float(plain.std())
    own = weight[1:].T.unflatten(1, (8, 8))[None]
    wanted = F.interpolate(own, size=(4, 4), mode="bicubic", align_corners=False, antialias=True)[0].flatten(1).T
    torch.testing.assert_close(small, wanted)


def test_queries_keys_and_values_of_a_block_are_its_own_projections(clip, pixels):
    seen = clip.vision(pixels)
    for block in (0, 2, -1):
        layer = clip.model.vision_model.encoder.layers[block]
        u = layer.layer_norm1(seen.inputs[block])
        for side, project in zip(clip.qkv(seen.inputs[block], block), ("q_proj", "k_proj", "v_proj"), strict=True):
            whole = getattr(layer.self_attn, project)(u)
            assert side.shape == (4, 17, 8)
            for head in range(4):
                torch.testing.assert_close(side[head], whole[:, head * 8 : head * 8 + 8])


@pytest.mark.parametrize("legacy", [False, True])
def test_text_is_the_mean_of_unit_templates_brought_to_unit_length(checkpoints, tmp_path, legacy):
    clip = backbone.load(checkpoints.make_clip(tmp_path, layers=2, legacy_end=legacy))
    strings, templates = ["cat", "a very grassy dog"], ["a photo of a {}.", "{}"]
    rows = []
    for string in strings:
        vectors = []
        for template in templates:
            tokens = clip.tokenizer([template.format(string)], padding="max_length", max_length=77, return_tensors="pt")
            vector = clip.model.get_text_features(**tokens).pooler_output[0]
            vectors.append(vector / vector.norm())
        mean = torch.stack(vectors).mean(0)
        rows.append(mean / mean.norm())
    torch.testing.assert_close(clip.text(strings, templates, batch=3), torch.stack(rows), atol=1e-5, rtol=1e-5)
    assert clip.text([], templates).shape == (0, 20)


def test_long_strings_are_named(clip):
    long = "x" * 80
    assert clip.truncated(["cat", long]) == (long,)
    assert clip.truncated(["x" * 74], ["{}"]) == ()
    assert clip.truncated(["x" * 74], ["{}", "a photo of {}"]) == ("x" * 74,)
    assert torch.isfinite(clip.text([long])).all()


def test_unknown_words_are_named_only_where_the_folder_lists_its_words(clip, clip_folder, tmp_path):
    assert clip.unknown(["Cat", "hot dog", "dog grass", "zebra", "hot cat"]) == ("zebra", "hot cat")
    shutil.copytree(clip_folder, tmp_path / "c")
    (tmp_path / "c" / "words.json").unlink()
    assert backbone.load(tmp_path / "c").unknown(["zebra"]) == ()


def test_what_it_says_of_itself(clip):
    assert (clip.patch, clip.side, clip.heads, clip.width) == (16, 64, 4, 20)
    assert math.isclose(clip.scale, math.exp(2.6592), rel_tol=1e-4)
    assert not clip.model.training
    assert not any(p.requires_grad for p in clip.model.parameters())


def test_sides_that_are_no_multiple_are_refused(clip):
    with pytest.raises(ShapeError, match="multiples of 16"):
        clip.vision(torch.zeros(1, 3, 60, 64))
    with pytest.raises(ShapeError, match="bilinear, bicubic"):
        clip.vision(torch.zeros(1, 3, 32, 64), positions="nearest")


def test_hooks_come_off_even_after_an_error(clip, monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("inside")

    def hooks():  # the library leaves some of its own once it was asked for hidden states
        return [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in clip.model.modules()]

    before = hooks()
    monkeypatch.setattr(clip.model.vision_model.encoder.layers[2].mlp, "forward", broken)
    with pytest.raises(RuntimeError, match="inside"):
        clip.vision(torch.zeros(1, 3, 64, 64), attention=True)
    assert hooks() == before


def test_a_broken_folder_is_named(tmp_path, clip_folder):
    with pytest.raises(WeightsError, match="cannot be read as a CLIP"):
        backbone.load(tmp_path)
    broken = shutil.copytree(clip_folder, tmp_path / "broken")
    config = json.loads((broken / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 5
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="reads the token 5"):
        backbone.load(broken)


def test_missing_weights_are_refused_rather_than_drawn_at_random(tmp_path, clip_folder):
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(clip_folder, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="visual_projection"):
        backbone.load(broken)


def test_half_precision_answers_in_float32(clip_folder):
    clip = backbone.load(clip_folder, dtype=torch.bfloat16)
    seen = clip.vision(torch.zeros(1, 3, 64, 64), attention=True)
    assert seen.output.dtype == torch.bfloat16
    assert seen.attention.dtype == clip.project(seen.output).dtype == clip.text(["cat"]).dtype == torch.float32
