from __future__ import annotations

import pytest
import torch

from nerveseg.labels import base, maskclip
from nerveseg.labels import clip as dense
from nerveseg.picture.geometry import to_tensor


def test_dense_clip_ends_as_the_model_does(clip, picture):
    options = dense.Options(short_side=64)
    features = dense.encode(dense.look(picture, {"clip": clip}, options), {"clip": clip}, options)
    tower = clip.model.vision_model
    with torch.no_grad():
        pixels = to_tensor(picture, (features.grid[0] * 16, features.grid[1] * 16))[None]
        x = clip.vision(pixels).output
        z = clip.model.visual_projection(tower.post_layernorm(x))[1:]
    torch.testing.assert_close(features.embeddings[0], z / z.norm(dim=1, keepdim=True))


@pytest.mark.parametrize(("residual", "ffn"), [(True, True), (False, False), (True, False)])
def test_maskclip_is_the_value_path(clip, picture, residual, ffn):
    options = maskclip.Options(short_side=64, residual=residual, ffn=ffn)
    (view,) = maskclip.look(picture, {"clip": clip}, options)
    block = clip.model.vision_model.encoder.layers[-1]
    x = view.activations.inputs[-1]
    with torch.no_grad():
        y = block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(x)))
        y = x + y if residual else y
        y = y + block.mlp(block.layer_norm2(y)) if ffn else y
        z = clip.model.visual_projection(clip.model.vision_model.post_layernorm(y))[1:]
    found = maskclip.encode([view], {"clip": clip}, options).embeddings[0]
    torch.testing.assert_close(found, z / z.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("source", [dense, maskclip])
def test_scores_are_probabilities_whose_logits_can_be_had(checkpoints, clip, picture, source):
    options = source.Options(short_side=64, scale=20.0)
    features = source.encode(source.look(picture, {"clip": clip}, options), {"clip": clip}, options)
    text = clip.text(["cat", "dog", "grass", "sky"])
    scores = source.score(features, checkpoints.words(text[:3], (0, 0, 1), text[3:]), {}, options)
    logits = scores.logits
    assert logits.maps.shape == (4, *scores.grid)
    assert logits.maps.abs().max() <= 1 + 1e-5
    assert (logits.groups, logits.scale, logits.join) == ((0, 0, 1), 20.0, "max")
    torch.testing.assert_close(scores.values, base.probabilities(logits.maps.flatten(1).T, (0, 0, 1), scale=20.0, join="max"))
