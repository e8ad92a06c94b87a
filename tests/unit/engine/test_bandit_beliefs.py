"""What bandits believe, and how they choose by it: against direct solutions, simulation, and chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decisions.bandits.beliefs import Beliefs, learnt, nothing_of
from engine.decisions.bandits.contexts import Encoder
from engine.decisions.bandits.policies import choose
from engine.decisions.bandits.resource import Algorithm, Arm, Bandit, Feature, check_bandit
from mesh.errors import InvalidError

ARMS = ("a", "b", "c")


def bandit(algorithm: Algorithm = "linucb", features: int = 4, **more: object) -> Bandit:
    named = tuple(Feature(f"f{at}", "number") for at in range(features))
    return Bandit(tuple(Arm(arm) for arm in ARMS), named, algorithm, **more)


def taught(made: Bandit, rewards: int, seed: int = 1, *, follow_each: bool = True) -> tuple[Beliefs, list]:
    """Beliefs after some random rewards, and what was told: arm, context, reward."""
    random = np.random.default_rng(seed)
    width = 1 + len(made.features)
    beliefs = Beliefs(ARMS, width, made.ridge, decays=made.kept_share < 1)
    states = {arm: nothing_of(arm, width) for arm in ARMS}
    told = []
    for revision in range(1, rewards + 1):
        arm = ARMS[random.integers(len(ARMS))]
        context = np.concatenate([[1.0], random.random(width - 1)])
        reward = random.random()
        states[arm] = learnt(states[arm], context, reward, made.kept_share, revision)
        told.append((arm, context, reward))
        if follow_each:
            beliefs.follow([states[arm]])
    beliefs.follow(states.values())
    return beliefs, told


@pytest.mark.parametrize("follow_each", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.9])
@pytest.mark.parametrize("ridge", [0.0, 1e-6, 10.0])
def test_beliefs_that_followed_hundreds_of_rewards_are_those_of_a_direct_solution(decay, ridge, follow_each):
    made = bandit(decay=decay, regularisation=ridge)
    beliefs, told = taught(made, 600, follow_each=follow_each)
    for at, arm in enumerate(ARMS):
        gram, moment = np.eye(5) * made.ridge, np.zeros(5)
        for kept, context, reward in [(a, c, r) for a, c, r in told if a == arm]:
            assert kept == arm
            gram = (
                (gram - np.eye(5) * made.ridge) * made.kept_share + np.outer(context, context) + np.eye(5) * made.ridge
            )
            moment = moment * made.kept_share + reward * context
        assert beliefs.weights[at] == pytest.approx(np.linalg.solve(gram, moment), rel=1e-6, abs=1e-9)
        probe = np.array([1.0, 0.2, 0.4, 0.6, 0.8])
        assert beliefs.deviation(probe)[at] == pytest.approx(np.sqrt(probe @ np.linalg.solve(gram, probe)), rel=1e-6)


def test_what_is_older_than_what_is_known_changes_nothing():
    width = 2
    beliefs = Beliefs(("a",), width, 1.0, decays=False)
    context = np.array([1.0, 0.5])
    one = learnt(nothing_of("a", width), context, 1.0, 1.0, 1)
    two = learnt(one, context, 0.0, 1.0, 2)
    beliefs.follow([two])
    before = (beliefs.weights.copy(), beliefs.inverse.copy())
    beliefs.follow([one, two])
    beliefs.follow([learnt(nothing_of("other", width), context, 1.0, 1.0, 3)])
    assert (beliefs.weights == before[0]).all()
    assert (beliefs.inverse == before[1]).all()
    assert beliefs.revision == 3


@pytest.mark.parametrize("algorithm", ["linucb", "thompson"])
@pytest.mark.parametrize("features", [0, 4])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_probabilities_are_how_often_each_arm_is_chosen(algorithm, features, share):
    made = bandit(algorithm, features, random_share=share)
    beliefs, _ = taught(made, 30)
    context = np.concatenate([[1.0], np.full(features, 0.5)])
    verdicts = [choose(made, beliefs, context, np.random.default_rng([7, at])) for at in range(1500)]
    chosen = np.bincount([verdict.arm for verdict in verdicts], minlength=3) / 1500
    assert verdicts[0].probabilities == pytest.approx(chosen, abs=0.052)  # 4 standard deviations of a share of 1,500
    assert verdicts[0].probabilities.sum() == pytest.approx(1.0)
    if share:
        assert verdicts[0].probabilities.min() >= share / 3 - 1e-12


@pytest.mark.parametrize("algorithm", ["linucb", "thompson"])
def test_without_exploration_the_best_expected_arm_is_taken(algorithm):
    for features in (0, 4):
        made = bandit(algorithm, features, exploration=0.0)
        beliefs, _ = taught(made, 50)
        context = np.ones(1 + features)
        verdict = choose(made, beliefs, context, np.random.default_rng(1))
        assert verdict.arm == int(verdict.expected.argmax())
        assert verdict.probabilities[verdict.arm] == 1.0


def test_arms_of_which_nothing_is_known_are_alike():
    made = bandit()
    beliefs = Beliefs(ARMS, 5, 1.0, decays=False)
    chosen = {choose(made, beliefs, np.ones(5), np.random.default_rng([1, at])).arm for at in range(50)}
    assert chosen == {0, 1, 2}
    assert choose(made, beliefs, np.ones(5), np.random.default_rng(1)).probabilities == pytest.approx([1 / 3] * 3)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1)), min_size=1, max_size=80),
    st.sampled_from([1e-3, 0.5, 100.0]),
)
def test_chances_are_chances_however_much_is_known_of_whom(known, spread):
    made = Bandit(tuple(Arm(f"a{at}") for at in range(len(known))), (), "thompson", spread)
    beliefs = Beliefs([arm.id for arm in made.arms], 1, 1.0, decays=False)
    beliefs.count = np.array([count for count, _ in known])
    beliefs.total = np.array([count * share for count, share in known])
    verdict = choose(made, beliefs, np.ones(1), np.random.default_rng(1))
    assert np.isfinite(verdict.probabilities).all()
    assert verdict.probabilities.min() >= 0
    assert verdict.probabilities.sum() == pytest.approx(1.0)


def played(made: Bandit, rounds: int, seed: int = 3) -> tuple[float, float]:
    """The regret of a bandit in a world where each arm is best in a part of the contexts: first half, second half.

    Rewards are 0 or 1; the regret is what the best arm would have brought more, on average.
    """
    random = np.random.default_rng(seed)
    truth = np.array([[0.5, 0.3, -0.3, 0.1, 0.0], [0.5, -0.3, 0.3, 0.0, 0.1], [0.45, 0.0, 0.0, 0.0, 0.0]])
    truth = truth[:, : 1 + len(made.features)]
    beliefs = Beliefs(ARMS, truth.shape[1], made.ridge, decays=made.kept_share < 1)
    states = {arm: nothing_of(arm, truth.shape[1]) for arm in ARMS}
    regret = np.zeros(rounds)
    for at in range(rounds):
        context = np.concatenate([[1.0], random.random(truth.shape[1] - 1)])
        chances = truth @ context
        verdict = choose(made, beliefs, context, np.random.default_rng([seed, at]))
        regret[at] = chances.max() - chances[verdict.arm]
        arm = ARMS[verdict.arm]
        states[arm] = learnt(
            states[arm], context, float(random.random() < chances[verdict.arm]), made.kept_share, at + 1
        )
        beliefs.follow([states[arm]])
    return float(regret[: rounds // 2].sum()), float(regret[rounds // 2 :].sum())


@pytest.mark.parametrize("algorithm", ["linucb", "thompson"])
def test_regret_grows_ever_more_slowly_and_is_far_below_that_of_chance(algorithm):
    first, second = played(bandit(algorithm), 3000)
    by_chance = sum(played(bandit(algorithm, random_share=1.0), 3000))
    assert second < 0.75 * first
    assert first + second < 0.35 * by_chance


def test_a_bandit_that_forgets_follows_a_world_that_turned():
    def regret_after_turn(decay: float) -> int:
        made = Bandit((Arm("a"), Arm("b")), (), "thompson", decay=decay)
        random, wrong = np.random.default_rng(5), 0
        beliefs = Beliefs(("a", "b"), 1, 1.0, decays=bool(decay))
        states = {arm: nothing_of(arm, 1) for arm in ("a", "b")}
        for at in range(1200):
            best = 0 if at < 600 else 1
            verdict = choose(made, beliefs, np.ones(1), np.random.default_rng([9, at]))
            wrong += at >= 600 and verdict.arm != best
            arm = "ab"[verdict.arm]
            reward = float(random.random() < (0.9 if verdict.arm == best else 0.1))
            states[arm] = learnt(states[arm], np.ones(1), reward, made.kept_share, at + 1)
            beliefs.follow([states[arm]])
        return wrong

    assert regret_after_turn(0.95) < 0.3 * regret_after_turn(0.0)


FEATURES = (Feature("n", "number", -10, 10), Feature("c", "category", categories=("x", "y")), Feature("f", "flag"))


def test_contexts_become_numbers_from_0_to_1_and_sums_come_back_by_feature():
    encoder = Encoder(FEATURES)
    vector = encoder.vector({"n": 5, "c": "y", "f": True}, "context")
    assert vector.tolist() == [1, 0.75, 0, 1, 1]
    assert list(encoder.names()) == ["bias", "n", "c=x", "c=y", "f"]
    assert encoder.by_feature(vector * 2) == [("bias", 2.0), ("n", 1.5), ("c", 2.0), ("f", 2.0)]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"n": None}, "context.n"), ({"n": 11}, "context.n"), ({"n": True}, "context.n"), ({"n": "5"}, "context.n"),
        ({"n": float("nan")}, "context.n"), ({"c": "z"}, "context.c"), ({"c": 1}, "context.c"), ({"f": 1}, "context.f"),
        ({"other": 1}, "context.other"),
    ],
)  # fmt: skip
def test_a_context_with_another_value_is_refused_by_its_feature(change, field):
    with pytest.raises(InvalidError) as refused:
        Encoder(FEATURES).vector({"n": 5, "c": "y", "f": True} | change, "context")
    assert refused.value.violations[0].field == field
    with pytest.raises(InvalidError, match=r"context\.c: is missing"):
        Encoder(FEATURES).vector({"n": 5, "f": True}, "context")


ONE = (Arm("a"),)


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (Bandit(()), "bandit.arms"),
        (Bandit((Arm("a"), Arm("a"))), "bandit.arms[1].id"),
        (Bandit(ONE, (Feature("x", "flag"), Feature("x", "flag"))), "bandit.features[1].name"),
        (Bandit(ONE, (Feature("bias", "flag"),)), "bandit.features[0].name"),
        (Bandit(ONE, (Feature("x", "number", 5, 5),)), "bandit.features[0].max"),
        (Bandit(ONE, (Feature("x", "category"),)), "bandit.features[0].categories"),
        (Bandit(ONE, (Feature("x", "category", categories=("a", "a")),)), "bandit.features[0].categories[1]"),
        (Bandit(ONE, (Feature("x", "flag", categories=("a",)),)), "bandit.features[0].categories"),
        (Bandit(ONE, (Feature("x", "flag", 0, 1),)), "bandit.features[0].min"),
        (Bandit(ONE, tuple(Feature(f"f{at}", "flag") for at in range(256))), "bandit.features"),
        (Bandit(tuple(Arm(f"a{at}") for at in range(65)), tuple(Feature(f"f{at}", "flag") for at in range(255))),
         "bandit.arms"),
        (Bandit(ONE, regularisation=1e-9), "bandit.regularisation"),
        (Bandit(ONE, decay=0.01), "bandit.decay"),
        (Bandit(ONE, min_reward=2, max_reward=1), "bandit.max_reward"),
    ],
)  # fmt: skip
def test_a_bandit_that_cannot_be_is_refused_by_its_field(made, field):
    with pytest.raises(InvalidError) as refused:
        check_bandit(made)
    assert refused.value.violations[0].field == field


def test_the_largest_bandits_are_taken():
    check_bandit(
        Bandit(tuple(Arm(f"a{at}") for at in range(64)), tuple(Feature(f"f{at}", "flag") for at in range(255)))
    )
    check_bandit(
        Bandit(tuple(Arm(f"a{at}") for at in range(1000)), tuple(Feature(f"f{at}", "flag") for at in range(63)))
    )
