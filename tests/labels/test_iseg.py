from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from nerveseg.errors import OptionError, WeightsError
from nerveseg.labels import base, iseg
from nerveseg.registry import options as make

LEVELS = {
    2: ("down_blocks.2.attentions.0", "down_blocks.2.attentions.1", *(f"up_blocks.1.attentions.{i}" for i in range(3))),
    4: ("down_blocks.1.attentions.0", "down_blocks.1.attentions.1", *(f"up_blocks.2.attentions.{i}" for i in range(3))),
}


def opts(**more):
    return make(iseg.Options, {"size": 64, **more})


def told(*strings, groups=None, others=()):
    groups = tuple(range(len(strings))) if groups is None else groups
    return base.Words(strings, groups, others, torch.zeros(len(strings), 0), torch.zeros(len(others), 0))


@pytest.fixture(scope="module")
def encoded(diffusion, image):
    networks = {"diffusion": diffusion}
    return iseg.encode(iseg.look(image, networks, opts()), networks, opts())


@pytest.fixture
def score(diffusion, encoded):
    return lambda words, **more: iseg.score(encoded, words, {"diffusion": diffusion}, opts(**more))


def keep(seen, key, heads):
    def hook(_module, _args, out):
        seen[key] = out[0].unflatten(-1, (heads, -1)).transpose(0, 1)

    return hook


def token_maps(model, x_t, prompt, chosen, layers=LEVELS):
    """X (64 rows of 77) of one whole pass, by hooks of the test's own and plain loops; ``chosen`` heads a level, None: all."""
    seen, handles = {}, []
    for path in (name for names in layers.values() for name in names):
        attention = model.unet.get_submodule(f"{path}.transformer_blocks.0.attn2")
        handles += [getattr(attention, n).register_forward_hook(keep(seen, (path, n), attention.heads)) for n in ("to_q", "to_k")]
    with torch.no_grad():
        model.unet(x_t, 100, encoder_hidden_states=prompt)
    for handle in handles:
        handle.remove()
    X = torch.zeros(64, 77)
    for (side, names), weight, some in zip(layers.items(), (0.7, 0.3), chosen, strict=True):
        heads = [(seen[path, "to_q"][h], seen[path, "to_k"][h]) for path in names for h in range(len(seen[path, "to_q"]))]
        heads = heads if some is None else [heads[h] for h in some]
        level = torch.zeros(side * side, 77)
        for Q, K in heads:
            for i in range(side * side):
                scaled = [float(Q[i] @ k) / math.sqrt(Q.shape[-1]) for k in K]
                grown = [math.exp(value - max(scaled)) for value in scaled]
                level[i] += torch.tensor([value / sum(grown) for value in grown]) / len(heads)
        for j in range(77):
            one = (level[:, j] / level[:, j].sum()).view(1, 1, side, side)
            X[:, j] += weight * F.interpolate(one, size=(8, 8), mode="bilinear", align_corners=False).flatten()
    return X


def cluster_by_hand(X, side, seeds, rounds):
    rows = [[float(v) + 1e-5 for v in row] for row in X]
    at = [i for i in range(side) if i % math.ceil(side / seeds) == 0]
    means = [rows[i * side + j] for i in at for j in at]
    own = []
    for _ in range(rounds):
        own = []
        for row in rows:
            apart = [sum((a - b) * (math.log(a) - math.log(b)) for a, b in zip(row, mean, strict=True)) for mean in means]
            own.append(apart.index(min(apart)))
        kept = []
        for c in range(len(means)):
            mine = [row for row, o in zip(rows, own, strict=True) if o == c]
            if mine:
                kept.append([sum(column) / len(mine) for column in zip(*mine, strict=True)])
        used = sorted(set(own))
        own, means = [used.index(o) for o in own], kept
    return torch.tensor([[v - 1e-5 for v in means[o]] for o in own])


def minmax(c):
    return (c - c.min()) / (c.max() - c.min())


def enhanced(model, text, places, factor=1.6):
    prompt = model.prompt_embeddings([text]).clone()
    for place in places:
        prompt[0, place] = prompt[0, place] * factor
    return prompt


@pytest.mark.parametrize("clusters", [0, 3])
@pytest.mark.parametrize("heads", [(), ([3, 99, 40], [])])
def test_the_equations_written_out_by_hand(diffusion, encoded, score, clusters, heads):
    tower = diffusion.text_tower()
    start = 1 + len(tower.pieces("a photograph of"))
    width = len(tower.pieces("hot dog"))
    # sorted by name: cat, then hot dog; "and" is one step between them
    step = len(tower.pieces("and"))
    cat, dog = (start,), tuple(range(start + 1 + step, start + 1 + step + width))
    prompt = enhanced(diffusion, "a photograph of cat and hot dog and other object and background, sky, grass", cat + dog)
    X = token_maps(diffusion, encoded.extra["noised"], prompt, [some or None for some in heads] or [None, None])
    if clusters:
        X = cluster_by_hand(X, 8, clusters, 4)
    scores = score(told("hot dog", "cat", others=("sky", "grass")), clusters=clusters, rounds=4, heads=heads)
    for column, places in enumerate((dog, cat)):
        expected = minmax(torch.stack([X[:, place] for place in places]).mean(0))
        torch.testing.assert_close(scores.values[:, column], expected, atol=5e-4, rtol=1e-3)
    assert scores.grid == (8, 8)
    assert scores.heads is None


def test_places_of_classes_follow_one_another_as_in_the_original(diffusion):
    # with a tokenizer that has every word of the prompt, "a photograph of" is three tokens: the first class stands at 4
    tower = diffusion.text_tower()
    (prompt,) = iseg.prompts(tower, told("sky", "cat", "dog"), opts(template="cat dog sky {}"))
    start, step = 4, len(tower.pieces("and"))
    assert prompt.places == {"cat": (start,), "dog": (start + 1 + step,), "sky": (start + 2 * (1 + step),)}
    assert prompt.ids == tower.framed(tower.pieces("cat dog sky cat and dog and sky"))
    (unsorted,) = iseg.prompts(tower, told("sky", "cat"), opts(template="{} and", sort=False))
    assert unsorted.places == {"sky": (1,), "cat": (2 + step,)}


def test_some_words_of_a_label_alone_are_read_where_it_is_listed(diffusion, score):
    tower = diffusion.text_tower()
    words, only = told("hot_dog", "cat"), ("hot dog: dog", "sky: sky")
    (all_,) = iseg.prompts(tower, words, opts())
    (some,) = iseg.prompts(tower, words, opts(only=only))
    dogs = len(tower.pieces("dog"))
    assert some.ids == all_.ids
    assert some.places == {"cat": all_.places["cat"], "hot_dog": all_.places["hot_dog"][-dogs:]}
    both = [score(words, only=given, clusters=0).values for given in (only, ())]
    assert float((both[0] - both[1]).abs().max()) > 1e-3
    for wrong in (("hot dog: sky",), ("hot dog",), (1,), ("a: b: c",), ("hot dog: ",)):
        with pytest.raises(OptionError, match="Got only"):
            iseg.prompts(tower, words, opts(only=wrong))


def test_clusters_begin_a_stride_apart_and_die_when_they_lose_every_row():
    side = 64
    X = torch.rand(side * side, 3, generator=torch.Generator().manual_seed(1)) / side**2
    seeds = list(range(0, side, 11))  # 6 of them, as iSeg places them on 64 tokens
    assert len(seeds) == 6
    rows = X.double() + 1e-5
    means = rows[[i * side + j for i in seeds for j in seeds]]
    apart = ((rows[:, None] - means) * (rows[:, None].log() - means.log())).sum(-1)
    own = apart.argmin(1)
    expected = torch.stack([rows[own == c].mean(0) for c in range(36)])[own] - 1e-5
    torch.testing.assert_close(iseg.clustered(X, (side, side), seeds=6, rounds=1), expected.float(), atol=1e-8, rtol=1e-5)
    # A seed like its neighbour's mean loses every row in the first round: it must not come back in the second.
    lost = torch.tensor([[0.1, 0.3], [0.3, 0.1], [0.1, 0.3], [0.3, 0.1]])
    torch.testing.assert_close(iseg.clustered(lost, (2, 2), seeds=2, rounds=5), lost)


def test_background_words_end_the_prompt_but_for_those_that_are_labels(diffusion):
    tower = diffusion.text_tower()
    base_text = "a photograph of cat and grass and other object and background"
    for words, options, ending in (
        (told("cat", "grass", others=("sky", "grass")), opts(), ", sky"),
        (told("cat", "grass"), opts(), ""),
        (told("cat", "grass"), opts(background="land, grass,  sky"), ", land, sky"),
        (told("cat", "grass"), opts(background="land, sky, "), ", land, sky,"),
        (told("cat", "grass", others=("hill",)), opts(background="land, sky, "), ", hill"),
        (told("cat", "grass", others=("hill",)), opts(background="land"), ", hill"),
    ):
        (prompt,) = iseg.prompts(tower, words, options)
        assert prompt.ids == tower.framed(tower.pieces(base_text + ending))


def test_classes_that_do_not_fit_go_into_further_prompts(diffusion, score):
    tower = diffusion.text_tower()
    strings = [f"cat{i:02d}" for i in range(30)]
    found = iseg.prompts(tower, told(*strings), opts())
    assert len(found) > 1
    assert [string for prompt in found for string in prompt.places] == sorted(strings)
    for prompt in found:
        assert len(prompt.ids) == tower.length
        for string, places in prompt.places.items():
            assert tuple(prompt.ids[place] for place in places) == tower.pieces(string)
    values = score(told(*strings), clusters=0).values
    assert values.shape == (64, 30)
    assert torch.isfinite(values).all()
    (long,) = iseg.prompts(tower, told("cat " * 90), opts())
    assert [places[-1] for places in long.places.values()] == [tower.length - 2]
    with pytest.raises(OptionError, match="no place for words"):
        iseg.prompts(tower, told("cat"), opts(template="cat " * 90 + "{}"))


def test_sorted_classes_score_alike_in_any_order_and_unsorted_ones_need_not(score):
    straight, turned = told("cat", "dog", "sky"), told("sky", "cat", "dog")
    one, two = score(straight).values, score(turned).values
    assert torch.equal(one[:, [2, 0, 1]], two)
    assert not torch.equal(score(straight, sort=False).values[:, [2, 0, 1]], score(turned, sort=False).values)


def test_strings_of_one_class_are_joined(score):
    apart = score(told("cat", "dog", "sky")).values
    for join, joined in (("max", torch.amax), ("sum", torch.sum)):
        found = score(told("cat", "dog", "sky", groups=(1, 0, 1)), join=join).values
        torch.testing.assert_close(found, torch.stack([apart[:, 1], joined(apart[:, [0, 2]], 1)], 1))


def test_clusters_alone():
    X = torch.rand(24, 5, generator=torch.Generator().manual_seed(0)) / 24
    torch.testing.assert_close(iseg.clustered(X, (4, 6), seeds=1, rounds=3), X.mean(0).expand(24, -1), atol=1e-7, rtol=1e-5)
    flat = torch.full((24, 5), 0.1)
    torch.testing.assert_close(iseg.clustered(flat, (4, 6), seeds=6, rounds=20), flat)
    halves = torch.cat([torch.full((12, 5), 0.1), torch.full((12, 5), 0.3)])
    torch.testing.assert_close(iseg.clustered(halves, (4, 6), seeds=2, rounds=20), halves)
    found = iseg.clustered(X, (4, 6), seeds=3, rounds=20)
    assert len(torch.unique(found.round(decimals=6), dim=0)) <= 9
    torch.testing.assert_close(found.sum(0), X.sum(0))  # means keep every token's total


def test_named_layers_alone_are_read(diffusion, encoded, score):
    layers = {2: LEVELS[2], 4: (LEVELS[4][1], LEVELS[4][2])}
    tower = diffusion.text_tower()
    place = 1 + len(tower.pieces("a photograph of"))
    prompt = enhanced(diffusion, "a photograph of cat and other object and background", (place,))
    X = token_maps(diffusion, encoded.extra["noised"], prompt, [None, None], layers)
    found = score(told("cat"), clusters=0, layers=(*layers[2], *layers[4])).values
    torch.testing.assert_close(found[:, 0], minmax(X[:, place]), atol=5e-4, rtol=1e-3)
    for wrong in (("mid_block.attentions.0", *LEVELS[2], *LEVELS[4]), LEVELS[2], ("up_blocks.3.attentions.2",)):
        with pytest.raises(OptionError, match="Got layers"):
            score(told("cat"), layers=wrong)


def test_the_pass_ends_with_the_last_level_that_counts(diffusion, score, monkeypatch):
    calls = []
    for name in ("up_blocks.2.attentions.2", "up_blocks.3"):
        module = diffusion.unet.get_submodule(name)
        monkeypatch.setattr(module, "forward", lambda *a, _f=module.forward, _n=name, **k: (calls.append(_n), _f(*a, **k))[1])
    score(told("cat"))
    assert calls == ["up_blocks.2.attentions.2"]


def test_heads_of_the_same_pass_come_along_when_asked_for(diffusion, encoded, score):
    tower = diffusion.text_tower()
    place = 1 + len(tower.pieces("a photograph of"))
    prompt = enhanced(diffusion, "a photograph of cat and other object and background", (place,))
    (seen,) = diffusion.cross_attention(encoded.extra["noised"], prompt, t=100, cross=(), own=("up_blocks.3.attentions.1",))
    found = score(told("cat"), own=("up_blocks.3.attentions.1",)).heads
    assert found.grid == (8, 8)
    torch.testing.assert_close(found.queries, seen.own[0].queries)
    torch.testing.assert_close(found.keys, seen.own[0].keys)
    with pytest.raises(OptionError, match="several grids"):
        score(told("cat"), own=(-1, 0, "mid_block.attentions.0"))


def test_same_seed_same_bytes_and_the_callers_random_state_stays(diffusion, image):
    networks = {"diffusion": diffusion}
    state = torch.get_rng_state()
    found = []
    for seed in (3, 3, 4):
        options = opts(seed=seed)
        features = iseg.encode(iseg.look(image, networks, options), networks, options)
        found.append(iseg.score(features, told("cat", "dog"), networks, options).values)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    (latents,) = iseg.look(image, networks, opts())
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    given = iseg.encode([latents], networks, opts(), noise=noise)
    seeded = iseg.encode([latents], networks, opts(seed=3))
    assert torch.equal(given.extra["noised"], seeded.extra["noised"])
    assert torch.equal(given.extra["noised"], diffusion.noised(latents.mean, t=100, seed=3))


def test_bad_heads_and_checkpoints_are_refused(score, tiny_diffusion, image):
    for heads in (([100], []), ([-1], []), ([0],)):
        with pytest.raises(OptionError, match="heads"):
            score(told("cat"), heads=heads)
    with pytest.raises(OptionError, match="Got weights"):
        score(told("cat"), weights=(0.7, 0.3))
    networks = {"diffusion": tiny_diffusion}
    features = iseg.encode(iseg.look(image, networks, opts()), networks, opts())
    with pytest.raises(WeightsError, match="words cannot go through"):
        iseg.score(features, told("cat"), networks, opts())


def test_the_embedded_pair_carries_it(mini_diffusion, image):
    networks = {"diffusion": mini_diffusion}
    options = opts(size=128, own=(-1,))
    features = iseg.encode(iseg.look(image, networks, options), networks, options)
    scores = iseg.score(features, told("cat", "dog", "sky", "grass"), networks, options)
    assert scores.grid == features.grid == (32, 32)
    assert scores.values.amax(0).tolist() == [1.0] * 4
    assert scores.heads.queries.shape == (5, 1024, 16)


@pytest.fixture(scope="module")
def mini_diffusion():
    from importlib.resources import files
    from pathlib import Path

    from nerveseg.backbones.stable_diffusion import load

    return load(Path(str(files("nerveseg.weights"))) / "embedded" / "diffusion")


EMBEDDED = {"weights.diffusion": "embedded:diffusion", "labels.size": 128}


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("diffsegmenter", {"labels.tokens": "all"}),
        ("iseg", {"labels.layers": (), "labels.heads": (), "labels.own": (-1,)}),
        ("nerve-iseg", {"labels.layers": (), "labels.heads": (), "graph.size": 128}),
    ],
)
def test_recipes_whose_words_go_through_the_network_run_on_the_embedded_pair(recipe, more, image):
    from nerveseg.segmenter import Segmenter

    segmenter = Segmenter.from_pretrained(recipe, settings={**EMBEDDED, **more})
    encoding = segmenter.encode(image)
    calls = []
    encode = segmenter.networks["diffusion"].vae.encode
    segmenter.networks["diffusion"].vae.encode = lambda x: (calls.append(1), encode(x))[1]
    segmenter.encode(image)
    assert len(calls) == 1  # the graph looks at the pixels that the label source looked at
    found = segmenter.decode(encoding, ["cat", "grass", "sky"], background="auto")
    assert len(calls) == 1  # and new words need no pass of the VAE
    assert found.segmentation.shape == (90, 130)
    assert set(found.segmentation.unique().tolist()) <= {0, 1, 2, 3}
    assert (found.walk is None) == (recipe == "diffsegmenter")


def test_isegs_walk_goes_on_the_heads_of_the_pass_that_read_the_words(image):
    from nerveseg.segmenter import Segmenter
    from nerveseg.walk.iseg import Options as WalkOptions
    from nerveseg.walk.iseg import solve
    from nerveseg.words.vocabulary import Vocabulary

    more = {"labels.layers": (), "labels.heads": (), "labels.own": (-1,), "labels.background": ""}
    segmenter = Segmenter.from_pretrained("iseg", settings={**EMBEDDED, **more})
    encoding = segmenter.encode(image)
    inside = segmenter.label(encoding, Vocabulary.parse(["cat", "sky"]))
    scores = iseg.score(encoding.features, told("cat", "sky"), segmenter.networks, segmenter.recipe.labels.options)
    expected = solve(scores.heads, scores.to_G(scores.grid), WalkOptions(steps=10, lam=0.015, heads=(1, 2))).probabilities
    torch.testing.assert_close(inside.P, expected)
    assert encoding.heads is None


def test_seed_and_noise_that_are_given_reach_labels_and_graph_alike(image):
    from nerveseg.segmenter import Segmenter

    segmenter = Segmenter.from_pretrained("nerve-iseg", settings={**EMBEDDED, "labels.layers": (), "labels.heads": (), "graph.size": 128})
    network = segmenter.networks["diffusion"]
    shape = segmenter.encode(image).features.extra["noised"].shape
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(9))
    (latents,) = iseg.look(image, segmenter.networks, segmenter.recipe.labels.options)
    for given in ({"seed": 9}, {"noise": noise}):
        encoding = segmenter.encode(image, **given)
        x_t = network.noised(latents.mean, t=100, noise=noise)
        torch.testing.assert_close(encoding.features.extra["noised"], x_t)
        layers = segmenter.recipe.graph.options.layers
        (seen,) = network.cross_attention(x_t, network.prompt, t=100, cross=(), own=layers)
        torch.testing.assert_close(encoding.heads.keys, torch.cat([layer.keys for layer in seen.own]), atol=1e-5, rtol=1e-4)
    many = segmenter.encode_many([image, image], seeds=[9, 8])
    torch.testing.assert_close(many[0].features.extra["noised"], x_t, atol=1e-5, rtol=1e-4)
    assert float((many[1].features.extra["noised"] - x_t).abs().max()) > 0.1
