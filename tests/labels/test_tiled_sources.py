"""Every label source and graph goes over tiles, and what it says of them is joined as it should be."""

from __future__ import annotations

import contextlib

import pytest
import torch

from nerveseg import registry
from nerveseg.errors import ShapeError
from nerveseg.image import tiles
from nerveseg.labels import _tiles, base
from nerveseg.labels._visual import token_vectors
from nerveseg.transition import Heads, TiledHeads

# What is read from a file is of the whole image.
LABELS = tuple(name for name in registry.names("labels") if registry.load("labels", name).needs)
GRAPHS = tuple(name for name in registry.names("graphs") if registry.load("graphs", name).needs)
FOUR = ("cat", "dog", "grass", "sky")
TILE = 64


@pytest.fixture(scope="module")
def networks(clip, diffusion, groupvit, dino, dinov2, taesd):
    return {"clip": clip, "diffusion": diffusion, "groupvit": groupvit, "dino": dino, "dinov2": dinov2, "taesd": taesd}


def small(module, **more):
    names = {field.name for field in registry.knobs(module.Options)}
    return registry.options(module.Options, {name: value for name, value in more.items() if name in names})


def source(name, **more):
    module = registry.load("labels", name)
    options = small(module, short_side=64, size=64, **more)
    return module, options, lambda image, networks: module.encode(module.look(image, networks, options), networks, options)


def words(module, networks, groups=(0, 1, 2)):
    vectors = networks[module.embeds].text(list(FOUR)) if module.embeds else torch.zeros(4, 0)
    return base.Words(FOUR[: len(groups)], tuple(groups), FOUR[len(groups) :], vectors[: len(groups)], vectors[len(groups) :])


def seen(image, looks, networks, tile=TILE):
    return _tiles.seen(image, tile, 0.25, looks, networks, frozenset(), lambda _: contextlib.nullcontext())


def asked(name, image, networks, **more):
    """Features by `seen`, the plan and the features of each tile by a plain loop."""
    module, options, look = source(name, **more)
    side = TILE if module.embeds else 96  # fewer tiles where every word is a pass
    noted, found = seen(image, {"label network": look}, networks, side)
    grid = look(tiles.first(image, side), networks).grid
    plan = tiles.plan(image.size, side, 0.25, grid, grid)
    assert noted.notes[-1] == plan.note
    return module, options, found["label network"], plan, [look(part, networks) for part in plan.cut(image)]


@pytest.mark.parametrize("name", LABELS)
def test_scores_of_tiles_are_joined_by_their_shares(name, image, networks):
    module, options, features, plan, parts = asked(name, image, networks)
    told = words(module, networks)
    scores = _tiles.score(module, features, told, networks, options, logits=True)
    assert scores.values.shape == (scores.grid[0] * scores.grid[1], 3)
    assert torch.isfinite(scores.values).all()
    assert scores.values.min() >= 0
    torch.testing.assert_close(scores.to_G((9, 13)).sum(1), torch.ones(117))
    assert features.grid[0] * plan.rows.span == plan.rows.units * parts[0].grid[0]
    if not features.tiles:
        return  # joined before words came; see below
    assert features.bytes == sum(part.bytes for part in parts)
    own = [module.score(part, told, networks, options) for part in parts]
    places = _tiles.places(plan, own[0].grid)
    by_hand = torch.zeros(*places.grid, 3)
    for tile, part in enumerate(own):
        by_hand[places.area(tile)] += places.share(tile)[..., None] * part.values.view(*places.side, 3)
    torch.testing.assert_close(scores.values.view(*places.grid, 3), by_hand, rtol=1e-5, atol=1e-6)
    if own[0].logits is not None:
        assert scores.logits.groups == own[0].logits.groups
        assert scores.logits.maps.shape[0] == own[0].logits.maps.shape[0]
        assert _tiles.score(module, features, told, networks, options, logits=False).logits is None


@pytest.mark.parametrize("name", ["maskclip", "sclip", "gem"])
def test_vectors_of_tokens_are_joined_so_that_cosines_are(name, image, networks):
    module, _, features, plan, parts = asked(name, image, networks, window=0, join_windows="tokens")
    assert features.tiles == ()
    places = _tiles.places(plan, parts[0].grid)
    told = words(module, networks)
    cosines = [part.embeddings[0] @ told.vectors.T for part in parts]
    by_hand = torch.zeros(*places.grid, 3)
    for tile, part in enumerate(cosines):
        by_hand[places.area(tile)] += places.share(tile)[..., None] * part.view(*places.side, 3)
    torch.testing.assert_close(features.embeddings[0] @ told.vectors.T, by_hand.flatten(0, 1), rtol=1e-5, atol=1e-6)
    assert features.embeddings.shape == (1, places.grid[0] * places.grid[1], parts[0].embeddings.shape[-1])


@pytest.mark.parametrize("name", ["maskclip", "sclip", "cliper", "iseg"])
def test_tokens_of_tiles_can_be_taken_for_words_where_those_of_an_image_can(name, image, networks):
    module, _, features, plan, parts = asked(name, image, networks)
    width = words(module, networks).vectors.shape[1]
    found, own = token_vectors(module, features, width), [token_vectors(module, part, width) for part in parts]
    if own[0] is None:
        assert found is None
        return
    places = _tiles.places(plan, parts[0].grid)
    by_hand = torch.nn.functional.normalize(places.paste(own), dim=-1)
    assert found.shape == (features.grid[0] * features.grid[1], width)
    # Features that were joined before are normalised after, those that were not before and after.
    assert float((found * by_hand).sum(1).min()) > 0.999


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_goes_over_tiles(name, image, networks):
    module = registry.load("graphs", name)
    options = small(module, size=64)
    _, found = seen(image, {"graph network": lambda part, given: module.heads(part, given, options)}, networks)
    heads = found["graph network"]
    assert isinstance(heads, TiledHeads)
    assert heads.tiles[0].grid == heads.places.side
    plan = tiles.plan(image.size, TILE, 0.25, heads.places.side, heads.places.side)
    plain = [module.heads(part, networks, options) for part in plan.cut(image)]
    assert all(torch.equal(one.keys, other.keys) for one, other in zip(heads.tiles, plain, strict=True))


def test_a_graph_and_a_label_source_whose_grids_do_not_meet_are_brought_together(image, networks):
    """7 × 7 tokens beside 4 × 4: the label source's cells go to the next grid that fits."""
    _, _, look = source("maskclip")
    heads = Heads(torch.ones(1, 49, 2), torch.ones(1, 49, 2), (7, 7))
    _, found = seen(image, {"label network": look, "graph network": lambda *_: heads}, networks)
    assert found["graph network"].places.side == (7, 7)
    assert found["label network"].grid == found["graph network"].grid


def test_an_image_that_fits_into_one_tile_is_left_to_be_seen_as_a_whole(image, networks):
    def never(*_):
        pytest.fail("a pass was made")

    assert seen(image, {"label network": never}, networks, tile=130) == (image, {})
    assert seen(image, {}, networks) == (image, {})


def test_networks_that_take_turns_stay_for_all_tiles(image, networks):
    from nerveseg.backbones.offload import OffloadedNetworks

    order = []
    _, _, look = source("maskclip")
    heads = Heads(torch.ones(1, 16, 2), torch.ones(1, 16, 2), (4, 4))

    def labels(part, given):
        order.append("labels")
        return look(part, networks)

    def graph(part, given):
        order.append("graph")
        return heads

    _, found = seen(image, {"label network": labels, "graph network": graph}, OffloadedNetworks({}, (), torch.device("cpu")))
    count = found["graph network"].places.count
    assert order == ["labels", "graph", *["labels"] * count, *["graph"] * count]


def test_cells_that_do_not_fall_onto_units_are_refused():
    plan = tiles.plan((90, 130), TILE, 0.25, (8, 8), (8, 8))
    with pytest.raises(ShapeError, match="Plan the tiles"):
        _tiles.places(plan, (7, 8))
