"""Corrections on the embedded pair: what a click does to P and to the map, undo, new labels, and what is refused."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
import torch

from nerveseg import transition
from nerveseg.clicks import Click, Options, parted, prepare, solved, wider
from nerveseg.errors import LabelError, OptionError
from nerveseg.synthetic import bundled, scenes

_PAGE = Path(__file__).parents[2] / "docs" / "clicks.md"

LABELS = ["cat", "grass", "sky", "dog"]


@pytest.fixture(scope="module")
def encoding(mini):
    from nerveseg.image import load_image

    return mini.encode(load_image(scenes.render("val", 3, size=(64, 80)).image))


@pytest.fixture(scope="module")
def edit(mini, encoding):
    return mini.correct(encoding, LABELS)


def make(number, grid=(5, 6), beta=0.4):
    chance = torch.Generator().manual_seed(number)
    n = grid[0] * grid[1]
    heads = transition.Heads(torch.randn(2, n, 5, generator=chance), torch.randn(2, n, 5, generator=chance), grid)
    G = torch.rand(n, 4, generator=chance) + 0.01
    G = G / G.sum(1, keepdim=True)
    return transition.build(heads, G, beta=beta, kernel="exp"), G


def chances(S, index, Y, alpha):
    """(I − αDS)H = (I − D)Y, densely."""
    D, wide = torch.eye(S.n, dtype=torch.float64), torch.zeros(S.n, Y.shape[1], dtype=torch.float64)
    D[index, index] = 0
    wide[index] = Y.double()
    return torch.linalg.solve(torch.eye(S.n, dtype=torch.float64) - alpha * D @ S.to_dense().double(), wide)


SEEDS = [Click("b", points=[(5, 5), (25, 35)]), Click("background", points=(55, 45)), Click("new", points=(15, 25))]
TOKENS, COLUMNS = [0, 3 * 6 + 2, 4 * 6 + 5, 2 * 6 + 1], [1, 1, 4, 3]


@pytest.mark.parametrize("often", [True, False])
@pytest.mark.parametrize("beta", [0.0, 0.4])
def test_beside_the_walk_the_equation_holds(often, beta, ground):
    S, G = make(1, beta=beta)
    given = prepare(ground(S, G, Options(alpha=0.97, tolerance=1e-4)), often=often)
    found = solved(given, SEEDS)
    H = chances(S, TOKENS, torch.eye(5)[COLUMNS], 0.97)
    expected = H + (1 - H.sum(1, keepdim=True)) * wider(given.P, 5).double()
    assert torch.allclose(found.P.double(), expected, atol=2e-4)
    assert torch.equal(found.P[TOKENS], torch.eye(5)[COLUMNS])
    assert torch.allclose(found.P.sum(1), torch.ones(30), atol=1e-5)
    assert bool(((found.P - wider(given.P, 5)).abs().sum(1) <= 2 * H.sum(1) + 4e-4).all())
    assert found.vocabulary.names == ("a", "b", "c", "new")


def test_within_the_walk_the_equation_holds(ground):
    S, G = make(2)
    found = solved(prepare(ground(S, G, Options(system="within", tolerance=1e-5)), often=True), SEEDS)
    H = chances(S, TOKENS, torch.eye(5)[COLUMNS], 0.9)
    D = torch.eye(30, dtype=torch.float64)
    D[TOKENS, TOKENS] = 0
    stopped = torch.linalg.solve(torch.eye(30, dtype=torch.float64) - 0.9 * D @ S.to_dense().double(), 0.1 * D @ wider(G, 5).double())
    assert torch.allclose(found.P.double(), H + stopped, atol=2e-5)


def test_on_the_local_graph_the_change_falls_by_alpha_a_token_and_the_radius_widens_it(ground):
    S, G = make(3, grid=(6, 9), beta=0.0)
    alpha = 0.9
    given = dataclasses.replace(ground(S, G, Options(alpha=alpha, tolerance=1e-5)), size=(6, 9))
    found = solved(given, [Click("a", points=(3, 2))])
    for token in range(54):
        far = max(abs(token // 9 - 2), abs(token % 9 - 3))
        assert float((found.P - given.P)[token].abs().sum()) <= 2 * alpha**far + 4e-5
    wide = solved(dataclasses.replace(given, options=Options(alpha=alpha, radius=1, tolerance=1e-5)), [Click("a", points=(3, 2))])
    assert int((wide.P[:, 0] == 1).sum()) == 5


def test_later_clicks_win_and_the_order_of_steps_does_not_matter(ground):
    S, G = make(4)
    given = prepare(ground(S, G, Options(alpha=0.97, tolerance=1e-5)), often=True)
    clicks = [Click("a", box=(0, 0, 39, 29)), Click("b", points=(15, 15))]
    both = solved(given, clicks)
    assert both.P[1 * 6 + 1].tolist() == [0, 1, 0, 0]
    assert both.P[0].tolist() == [1, 0, 0, 0]
    step = solved(given, clicks, solved(given, clicks[:1]))
    assert torch.allclose(both.P, step.P, atol=2e-5)


def test_where_nothing_walks_clicks_keep_to_their_tokens(ground):
    S, G = make(5)
    found = solved(dataclasses.replace(ground(S, G, Options()), S=None, P=G), [Click("b", points=(5, 5))])
    assert found.P[0].tolist() == [0, 1, 0, 0]
    assert torch.equal(found.P[1:], G[1:])


def test_another_kind_of_walk_is_bent_by_clicks(ground):
    S, G = make(6)
    given = ground(S, G, Options(alpha=0.97, tolerance=1e-5), walk_alpha=None)
    H = chances(S, [0], torch.eye(4)[[1]], 0.97)
    found = solved(given, [Click("b", points=(5, 5))])
    assert torch.allclose(found.P.double(), H + (1 - H.sum(1, keepdim=True)) * given.P.double(), atol=5e-5)


def test_knobs_have_names_of_their_own():
    options, rest = parted({"clicks.alpha": 0.9, "walk.alpha": 0.8})
    assert (options.alpha, rest) == (0.9, {"walk.alpha": 0.8})
    for wrong in ({"clicks.alpha": 1.0}, {"clicks.alfa": 0.5}, {"clicks.visual": "maybe"}, {"clicks.radius": -1}):
        with pytest.raises(OptionError):
            parted(wrong)


def test_without_clicks_it_is_the_plain_decode(mini, encoding, edit):
    plain = mini.decode(encoding, LABELS)
    assert torch.equal(edit.result.segmentation, plain.segmentation)
    assert torch.equal(edit.result.probabilities, plain.probabilities)
    assert torch.equal(mini.decode(encoding, LABELS, clicks=[]).probabilities, plain.probabilities)
    assert edit.undo() is edit
    assert edit.add() is edit


@pytest.mark.parametrize("visual", ["auto", "off"])
def test_a_clicked_pixel_has_its_label_and_undo_restores_p(mini, encoding, visual):
    start = mini.correct(encoding, LABELS, settings={"clicks.visual": visual})
    P = start.P.clone()
    first = start.add(Click("dog", points=(30, 40)))
    second = first.add(Click("cat", points=(70, 10)), Click("sky", strokes=[(2, 2), (20, 2)]))
    assert second.result.segmentation[40, 30] == 3
    assert second.result.segmentation[10, 70] == 0
    assert bool((second.result.segmentation[2, 2:21] == 2).all())
    assert [click.label for click in second.clicks] == ["dog", "cat", "sky"]
    assert second.undo().P is first.P
    assert torch.equal(second.undo().undo().P, P)
    assert torch.equal(start.P, P)
    assert torch.allclose(second.P.sum(1), torch.ones(len(P)), atol=1e-5)
    assert set(second.seconds) == {"reach", "labels", "walk", "colours", "decide"}


def test_steps_and_one_stateless_decode_agree(mini, encoding, edit):
    clicks = [Click("dog", points=(30, 40)), Click("cat", points=(70, 10))]
    steps = edit.add(clicks[0]).add(clicks[1]).result
    once = mini.decode(encoding, LABELS, clicks=clicks)
    assert float((steps.probabilities - once.probabilities).abs().max()) < 2e-3
    assert float((steps.segmentation != once.segmentation).float().mean()) < 0.002


def test_a_new_label_is_last_and_the_background_after_it(mini, encoding):
    start = mini.correct(encoding, LABELS, background="auto")
    after = start.add(Click("my thing", points=(30, 40))).add(Click("background", points=(70, 60)))
    assert after.result.id2label == {0: "cat", 1: "grass", 2: "sky", 3: "dog", 4: "my thing", 5: "background"}
    assert after.labels == (*LABELS, "my thing")
    assert after.result.segmentation[40, 30] == 4
    assert after.result.segmentation[60, 70] == 5
    assert after.result.background == 5
    assert int((after.result.segmentation == 4).sum()) > 1
    assert after.undo().result.id2label[4] == "my thing"


def test_one_word_and_a_new_label_need_no_background(mini, encoding):
    with pytest.raises(LabelError):
        mini.decode(encoding, ["grass"])
    found = mini.decode(encoding, ["grass"], clicks=[Click("thing", points=(30, 40))])
    assert found.id2label == {0: "grass", 1: "thing"}


def test_what_lies_under_a_small_part_stays_clicked(mini, encoding):
    found = mini.decode(encoding, LABELS, clicks=[Click("dog", points=(30, 40))], settings={"masks.min_area": 500})
    assert found.segmentation[40, 30] == 3


def test_wrong_clicks_and_knobs_are_refused(mini, encoding, edit):
    with pytest.raises(OptionError, match="outside of the image"):
        edit.add(Click("dog", points=(80, 3)))
    with pytest.raises(OptionError, match="clicks"):
        mini.correct(encoding, LABELS, settings={"clicks.alpha": 2})
    with pytest.raises(OptionError, match="no network pass"):
        mini.correct(encoding, LABELS, settings={"graph.t": 30})
    with pytest.raises(LabelError):
        edit.add(Click("a\x00", points=(3, 3)))


def test_the_snippet_of_the_docs_runs(mini, tmp_path, monkeypatch):
    shutil.copy(bundled.scenes()[0].path, tmp_path / "scene.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(type(mini), "from_pretrained", lambda *_, **__: mini)
    (block,) = re.findall(r"^```python\n(.*?)^```", _PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    space: dict[str, object] = {}
    exec(compile(block, "clicks.md", "exec"), space)
    assert len(space["edit"].clicks) == 1
    assert (tmp_path / "scene.overlay.png").is_file()
