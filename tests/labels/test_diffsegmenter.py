from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from nerveseg.errors import OptionError, ShapeError, WeightsError
from nerveseg.labels import _cross, base, diffsegmenter
from nerveseg.registry import options as make

LEVELS = {
    8: ("down_blocks.0.attentions.0", "down_blocks.0.attentions.1", *(f"up_blocks.3.attentions.{i}" for i in range(3))),
    4: ("down_blocks.1.attentions.0", "down_blocks.1.attentions.1", *(f"up_blocks.2.attentions.{i}" for i in range(3))),
    2: ("down_blocks.2.attentions.0", "down_blocks.2.attentions.1", *(f"up_blocks.1.attentions.{i}" for i in range(3))),
    1: ("mid_block.attentions.0",),
}


def opts(**more):
    return make(diffsegmenter.Options, {"size": 64, **more})


def told(*strings, groups=None, others=()):
    groups = tuple(range(len(strings))) if groups is None else groups
    return base.Words(strings, groups, others, torch.zeros(len(strings), 0), torch.zeros(len(others), 0))


def encoded(image, diffusion, options, **more):
    networks = {"diffusion": diffusion}
    return diffsegmenter.encode(diffsegmenter.look(image, networks, options), networks, options, **more), networks


def keep(seen, key, heads):
    def hook(_module, _args, out):
        seen[key] = out[0].unflatten(-1, (heads, -1)).transpose(0, 1)

    return hook


def projections(model, x_t, t, prompt, kind):
    """Queries and keys of every layer of one whole pass, heads apart: path → (Q, K), by hooks of the test's own."""
    seen, handles = {}, []
    for path in (name for layers in LEVELS.values() for name in layers):
        attention = model.unet.get_submodule(f"{path}.transformer_blocks.0.{kind}")
        handles += [getattr(attention, n).register_forward_hook(keep(seen, (path, n), attention.heads)) for n in ("to_q", "to_k")]
    with torch.no_grad():
        model.unet(x_t, t, encoder_hidden_states=prompt)
    for handle in handles:
        handle.remove()
    return {path: (seen[path, "to_q"], seen[path, "to_k"]) for layers in LEVELS.values() for path in layers}


def softmax(row):
    top = max(row)
    grown = [math.exp(value - top) for value in row]
    return [value / sum(grown) for value in grown]


def attention_rows(Q, K):
    return [softmax([float(q @ k) / math.sqrt(Q.shape[-1]) for k in K]) for q in Q]


def minmax(values):
    low, high = min(values), max(values)
    return [(value - low) / max(high - low, 1e-12) for value in values]


def by_hand(model, x_t, t, prompt, places):
    crossed, own = (projections(model, x_t, t, prompt, kind) for kind in ("attn2", "attn1"))
    m = [0.0] * 64
    for weight, side in ((0.3, 1), (0.5, 2), (0.1, 4), (0.1, 8)):
        heads = [(Q[h], K[h]) for path in LEVELS[side] for Q, K in [crossed[path]] for h in range(len(Q))]
        total = [0.0] * side**2
        for Q, K in heads:
            for i, row in enumerate(attention_rows(Q, K)):
                total[i] += sum(row[place] for place in places) / len(places) / len(heads)
        low = torch.tensor(total).view(1, 1, side, side)
        up = F.interpolate(low, size=(8, 8), mode="bilinear", align_corners=False).flatten().tolist()
        if side > 1:  # one token alone says nothing of where a word is
            m = [value + weight * more for value, more in zip(m, minmax(up), strict=True)]
    spread, count = [0.0] * 64, 0
    for path in LEVELS[8]:
        for Q, K in zip(*own[path], strict=True):
            count += 1
            for i, row in enumerate(attention_rows(Q, K)):
                spread[i] += sum(a * b for a, b in zip(row, m, strict=True))
    return minmax([value / count for value in spread])


@pytest.mark.parametrize("tokens", ["first", "all"])
def test_the_equations_written_out_by_hand(diffusion, image, tokens):
    options = opts(tokens=tokens)
    features, networks = encoded(image, diffusion, options)
    words = told("cat", "hot dog")
    scores = diffsegmenter.score(features, words, networks, options)
    tower = diffusion.text_tower()
    start = 1 + len(tower.pieces("a photograph of"))
    for column, string in enumerate(words.strings):
        places = range(start, start + (1 if tokens == "first" else len(tower.pieces(string))))
        prompt = diffusion.prompt_embeddings([f"a photograph of {string}"])
        expected = torch.tensor(by_hand(diffusion, features.extra["noised"], 100, prompt, list(places)))
        torch.testing.assert_close(scores.values[:, column], expected, atol=2e-4, rtol=1e-3)
    assert scores.grid == (8, 8)


def test_the_latent_is_a_sample_noised_to_the_step(diffusion, image):
    options = opts(t=60, seed=5)
    generator = torch.Generator().manual_seed(5)
    noise, draw = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    features, networks = encoded(image, diffusion, options)
    (latents,) = diffsegmenter.look(image, networks, options)
    kept = float(diffusion.alphas[60])
    sample = latents.mean + latents.deviation * draw
    torch.testing.assert_close(features.extra["noised"], math.sqrt(kept) * sample + math.sqrt(1 - kept) * noise)
    given, _ = encoded(image, diffusion, opts(t=60), noise=noise, draw=draw)
    assert torch.equal(given.extra["noised"], features.extra["noised"])
    mean, _ = encoded(image, diffusion, opts(t=60, seed=5, sample=False))
    torch.testing.assert_close(mean.extra["noised"], diffusion.noised(latents.mean, t=60, seed=5))
    assert features.bytes == 4 * 4 * 64
    with pytest.raises(ShapeError, match="Got a draw"):
        encoded(image, diffusion, options, draw=draw[:, :3])
    with pytest.raises(ShapeError, match="without a latent"):
        diffsegmenter.score(base.Features(torch.zeros(1, 4, 2), (2, 2)), told("cat"), networks, options)
    with pytest.raises(ShapeError, match="no view"):
        diffsegmenter.encode([], networks, options)


def test_same_seed_same_bytes_and_the_callers_random_state_stays(diffusion, image):
    state = torch.get_rng_state()
    found = []
    for seed in (3, 3, 4):
        features, networks = encoded(image, diffusion, opts(seed=seed))
        found.append(diffsegmenter.score(features, told("cat", "dog"), networks, opts(seed=seed)).values)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_class_has_nothing_to_do_with_the_others(diffusion, image):
    features, networks = encoded(image, diffusion, opts())
    several = diffsegmenter.score(features, told("cat", "dog", "grass", others=("sky",)), networks, opts(batch=1)).values
    alone = diffsegmenter.score(features, told("dog"), networks, opts(batch=1)).values
    assert torch.equal(several[:, 1:2], alone)
    assert several.amin(0).tolist() == [0.0] * 3
    assert several.amax(0).tolist() == [1.0] * 3


def test_batches_are_their_loop(diffusion, image):
    features, networks = encoded(image, diffusion, opts())
    words = told("cat", "dog", "grass", "sky", "hot dog")
    one, four = (diffsegmenter.score(features, words, networks, opts(batch=batch)).values for batch in (1, 4))
    torch.testing.assert_close(one, four, atol=2e-4, rtol=1e-3)


def test_strings_of_one_class_are_joined(diffusion, image):
    features, networks = encoded(image, diffusion, opts())
    apart = diffsegmenter.score(features, told("cat", "dog", "sky"), networks, opts()).values
    for join, joined in (("max", torch.amax), ("sum", torch.sum)):
        found = diffsegmenter.score(features, told("cat", "dog", "sky", groups=(0, 0, 1)), networks, opts(join=join)).values
        torch.testing.assert_close(found, torch.stack([joined(apart[:, :2], 1), apart[:, 2]], 1))


def test_the_token_after_the_class_is_read_too_where_the_next_word_ends_in_ing(diffusion):
    tower = diffusion.text_tower()
    start = 1 + len(tower.pieces("a photograph of"))
    end = start + len(tower.pieces("hot")) + len(tower.pieces("dog")) - 1

    def read(word, **more):
        return diffsegmenter._prompt(tower, word, opts(**more)).read

    running, still = "a photograph of {} running over grass", "a photograph of {} on grass"
    assert read("cat") == read("cat", template=still) == [start]
    assert read("cat", template=running) == [start, start + 1]
    assert read("dining table", template=still) == [start]
    assert read("hot_dog", template=running) == [start]
    assert read("hot_dog", template=running, tokens="last") == [end, end + 1]
    assert read("hot_dog", template=still, tokens="last") == read("hot_dog", tokens="last") == [end]
    prompt = diffsegmenter._prompt(tower, "cat", opts(template="{} on a mat", tokens="all"))
    assert prompt.read == prompt.heavy == [1]
    assert prompt.ids == tower.framed(tower.pieces("cat on a mat"))


def test_the_last_word_of_a_class_is_heavier_by_what_it_says_beyond_the_empty_prompt(diffusion, image):
    options = opts(emphasis=1.21, tokens="last", template="a photograph of {} on grass")
    features, networks = encoded(image, diffusion, options)
    found = diffsegmenter.score(features, told("hot dog"), networks, options).values[:, 0]
    tower = diffusion.text_tower()
    prompt = diffusion.prompt_embeddings(["a photograph of hot dog on grass"]).clone()
    start = 1 + len(tower.pieces("a photograph of hot"))
    places = range(start, start + len(tower.pieces("dog")))
    for place in places:
        for i in range(prompt.shape[-1]):
            nothing = diffusion.prompt[0, place, i]
            prompt[0, place, i] = nothing + 1.21 * (prompt[0, place, i] - nothing)
    expected = torch.tensor(by_hand(diffusion, features.extra["noised"], 100, prompt, [places[-1]]))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)
    plain = diffsegmenter.score(features, told("hot dog"), networks, opts(tokens="last", template="a photograph of {} on grass"))
    assert float((plain.values[:, 0] - found).abs().max()) > 1e-3


def test_a_string_longer_than_the_tower_is_cut(diffusion, image):
    features, networks = encoded(image, diffusion, opts())
    long = "cat " * 100
    scores = diffsegmenter.score(features, told(long.strip()), networks, opts(tokens="all"))
    assert torch.isfinite(scores.values).all()
    prompt = diffsegmenter._prompt(diffusion.text_tower(), long, opts(tokens="all", template=f"{'dog ' * 90}{{}}"))
    assert (len(prompt.ids), prompt.read, prompt.heavy) == (77, [75], [])


def test_levels_meet_weights_from_the_coarse_end(diffusion, checkpoints, tmp_path):
    from nerveseg.backbones.stable_diffusion import load

    found = _cross.weighted_levels(diffusion, (0.3, 0.5, 0.1, 0.0))
    assert [(weight, depth, len(layers)) for weight, depth, layers in found] == [(0.3, 3, 1), (0.5, 2, 5), (0.1, 1, 5)]
    two = load(checkpoints.make_diffusion(tmp_path / "two", tiny=True, prompt_only=True))
    assert [(weight, depth) for weight, depth, _ in _cross.weighted_levels(two, (0.3, 0.5, 0.1, 0.1))] == [(0.3, 1), (0.5, 0)]
    for weights in ((0.5, 0.5), (0, 0, 0, 0), (1, -1, 1, 1), (True,) * 4, ("1",) * 4, ()):
        with pytest.raises(OptionError, match="Got weights"):
            _cross.weighted_levels(diffusion, weights)


def test_bad_templates_and_checkpoints_are_refused(diffusion, tiny_diffusion, image):
    features, networks = encoded(image, diffusion, opts())
    for template in ("a photograph", "{} and {}"):
        with pytest.raises(OptionError, match="exactly once"):
            diffsegmenter.score(features, told("cat"), networks, opts(template=template))
    features, networks = encoded(image, tiny_diffusion, opts())
    with pytest.raises(WeightsError, match="words cannot go through"):
        diffsegmenter.score(features, told("cat"), networks, opts())


def test_a_half_precision_model_gives_float32_scores(diffusion_folder, image):
    from nerveseg.backbones.stable_diffusion import load

    model = load(diffusion_folder, dtype=torch.bfloat16)
    features, networks = encoded(image, model, opts())
    scores = diffsegmenter.score(features, told("cat", "dog"), networks, opts())
    assert features.extra["noised"].dtype == torch.bfloat16
    assert scores.values.dtype == torch.float32
    assert torch.isfinite(scores.values).all()
