from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from nerveseg.labels.calibrations import z_score
from nerveseg.registry import options as make


def rows(n, k, seed):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed)).mul(2).softmax(1)


def z_of(G):
    return (G - G.mean(0)) / G.std(0, correction=0)


def test_class_scores_as_a_factor_is_softmax_of_z_times_the_root():
    G = rows(20, 4, 0)
    expected = (z_of(G) * G.amax(0).sqrt()).softmax(1)
    found = z_score.calibrate(G, make(z_score.Options, {"gain": 1.0, "score_power": 0.5, "log_score": 0.0}), rest=False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_class_scores_as_a_prior_is_softmax_of_z_plus_their_logs():
    G = rows(20, 4, 1)
    expected = (3 * z_of(G) + 2 * G.amax(0).log()).softmax(1)
    found = z_score.calibrate(G, make(z_score.Options, {"gain": 3.0, "log_score": 2.0}), rest=False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_rest_is_kept_and_classes_share_what_it_leaves():
    G = rows(20, 4, 2)
    found = z_score.calibrate(G, z_score.Options(), rest=True)
    assert torch.equal(found[:, -1], G[:, -1])
    torch.testing.assert_close(found[:, :-1].sum(1), 1 - G[:, -1])


def test_rest_may_compete_like_a_class():
    G = rows(20, 4, 3)
    like = make(z_score.Options, {"rest": "class"})
    assert torch.equal(z_score.calibrate(G, like, rest=True), z_score.calibrate(G, like, rest=False))


def test_an_absent_rest_stays_absent_in_either_form():
    G = torch.cat([rows(9, 3, 4), torch.zeros(9, 1)], 1)
    for power, log in ((0.5, 0.0), (0.0, 2.0)):
        for rest in ("keep", "class"):
            options = make(z_score.Options, {"score_power": power, "log_score": log, "rest": rest})
            assert z_score.calibrate(G, options, rest=True)[:, -1].eq(0).all()


def test_only_rest_stays_only_rest():
    G = torch.cat([torch.zeros(5, 2), torch.ones(5, 1)], 1)
    assert torch.equal(z_score.calibrate(G, z_score.Options(), rest=True), G)


def test_constant_columns_have_no_z():
    G = torch.tensor([[0.3, 0.7]]).expand(6, 2).contiguous()
    found = z_score.calibrate(G, make(z_score.Options, {"log_score": 1.0}), rest=False)
    torch.testing.assert_close(found, G)


def test_a_timid_class_wins_where_it_is_strongest():
    G = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.65, 0.35]])
    assert G.argmax(1).tolist() == [0, 0, 0, 0]
    assert z_score.calibrate(G, z_score.Options(), rest=False).argmax(1).tolist() == [0, 0, 0, 1]


@given(
    n=st.integers(1, 12),
    k=st.integers(2, 5),
    gain=st.floats(0, 20),
    power=st.floats(0, 2),
    log=st.floats(0, 10),
    form=st.sampled_from(["keep", "class"]),
    rest=st.booleans(),
)
def test_rows_sum_to_1_and_classes_may_be_permuted(n, k, gain, power, log, form, rest):
    G = rows(n, k, n * k)
    options = make(z_score.Options, {"gain": gain, "score_power": power, "log_score": log, "rest": form})
    found = z_score.calibrate(G, options, rest=rest)
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(1), torch.ones(n), atol=1e-5, rtol=0)
    order = [*reversed(range(k - 1)), k - 1] if rest else list(reversed(range(k)))
    torch.testing.assert_close(z_score.calibrate(G[:, order], options, rest=rest), found[:, order], atol=1e-6, rtol=1e-5)
