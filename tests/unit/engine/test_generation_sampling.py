"""Which token comes next: as the settings say, and for each row by itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.generation.sampling import Chances, Chooser, scores


def chances(temperature=1.0, top_p=1.0, top_k=0, seed=0, frequency=0.0, presence=0.0, made=None) -> Chances:
    return Chances(temperature, top_p, top_k, frequency, presence, np.random.default_rng(seed), made)


def choose(rows, settings) -> np.ndarray:
    """The next token of each row."""
    return Chooser(settings).choose(rows)


def logits(rows=1, width=50, seed=0):
    return (np.random.default_rng(seed).standard_normal((rows, width)) * 3).astype(np.float32)


def drawn(one_row, settings, count=4000) -> np.ndarray:
    """How often each token is chosen, as a share."""
    rows = np.repeat(one_row, count, axis=0)
    tokens = choose(rows, [settings(seed) for seed in range(count)])
    return np.bincount(tokens, minlength=one_row.shape[1]) / count


def test_without_temperature_the_most_probable_token_is_taken():
    rows = logits(8)
    assert (choose(rows.copy(), [chances(0, top_p=0.1, top_k=3)] * 8) == rows.argmax(axis=1)).all()


def test_tokens_come_as_often_as_they_are_probable():
    row = logits(width=6)
    probable = np.exp(row[0]) / np.exp(row[0]).sum()
    assert np.abs(drawn(row, lambda seed: chances(seed=seed)) - probable).max() < 0.03
    hot = np.exp(row[0] / 2) / np.exp(row[0] / 2).sum()
    assert np.abs(drawn(row, lambda seed: chances(2.0, seed=seed)) - hot).max() < 0.03


def test_only_the_most_probable_ones_come_with_top_k():
    row = logits()
    found = drawn(row, lambda seed: chances(1.5, top_k=4, seed=seed), 800)
    assert set(np.flatnonzero(found)) == set(np.argsort(-row[0])[:4])


@pytest.mark.parametrize("width", [50, 3000])
def test_only_those_that_come_to_the_share_together_come_with_top_p(width):
    row = logits(width=width)
    probable = np.exp(row[0].astype(np.float64))
    probable /= probable.sum()
    order = np.argsort(-probable)
    kept = order[: int((probable[order].cumsum() < 0.6).sum()) + 1]
    found = drawn(row, lambda seed: chances(1.0, top_p=0.6, seed=seed), 800)
    assert set(np.flatnonzero(found)) <= set(kept)
    assert found[order[0]] > 0


def test_a_flat_choice_needs_more_than_the_first_candidates():
    row = np.zeros((1, 5000), np.float32)
    found = {int(choose(row.copy(), [chances(1.0, top_p=0.9, seed=seed)])[0]) for seed in range(50)}
    assert len(found) > 40


@given(st.integers(0, 2**32), st.floats(0.1, 3), st.floats(0.05, 1), st.integers(0, 10))
def test_a_row_gets_the_same_token_alone_and_among_others(seed, temperature, top_p, top_k):
    rows = logits(5, seed=seed)
    together = choose(rows.copy(), [chances(temperature, top_p, top_k, seed=at) for at in range(5)])
    alone = [choose(rows[at : at + 1].copy(), [chances(temperature, top_p, top_k, seed=at)])[0] for at in range(5)]
    assert together.tolist() == alone


@given(st.integers(0, 2**32), st.floats(0, 5), st.floats(0.01, 1), st.integers(0, 60))
def test_what_is_forbidden_never_comes(seed, temperature, top_p, top_k):
    row = logits(seed=seed)
    row[0, np.random.default_rng(seed).permutation(50)[:45]] = -np.inf
    allowed = set(np.flatnonzero(np.isfinite(row[0])))
    assert int(choose(row, [chances(temperature, top_p, top_k, seed=seed)])[0]) in allowed


def test_logits_without_a_number_are_told():
    rows = logits(3)
    rows[0], rows[2] = np.nan, -np.inf
    tokens = choose(rows, [chances(0), chances(0), chances(1)])
    assert tokens[0] == tokens[2] == -1
    assert tokens[1] >= 0


def test_penalties_count_what_was_made():
    row = np.array([[3.0, 2.9, 0.0]], np.float32)
    settings = chances(0, frequency=0.5, made=np.zeros(3, np.float32))
    tokens = []
    for _ in range(4):
        tokens.append(int(choose(row.copy(), [settings])[0]))
    assert tokens == [0, 1, 0, 1]


def test_scores_are_logarithms_of_probabilities():
    rows = logits(2)
    told = scores(rows, np.array([3, 4]), [2, None])
    assert told[1] is None
    logprob, top = told[0]
    expected = rows[0] - np.log(np.exp(rows[0].astype(np.float64)).sum())
    assert logprob == pytest.approx(expected[3], abs=1e-5)
    assert [token for token, _ in top] == np.argsort(-rows[0])[:2].tolist()
