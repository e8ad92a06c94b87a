"""Bandits as the contract carries them: resources, choices and what was learnt, both ways."""

from __future__ import annotations

import numpy as np
from google.protobuf.duration_pb2 import Duration
from tiation.engine.v1 import bandit_pb2 as pb

from engine.decisions.bandits.contexts import Encoder
from engine.decisions.bandits.learning import Chosen, Learnt
from engine.decisions.bandits.resource import Arm, Bandit, Feature

__all__ = ["bandit_of", "choice_message", "report_message", "show_bandit"]

_KINDS = {pb.Feature.NUMBER: "number", pb.Feature.CATEGORY: "category", pb.Feature.FLAG: "flag"}
_TYPES = {kind: number for number, kind in _KINDS.items()}
_SHOWN = 5
"""Arms whose scores are shown unless the caller says otherwise."""
_NAMED = 3
"""Features that a sentence names."""


def bandit_of(message: pb.Bandit) -> Bandit:
    """A bandit as it is sent."""
    return Bandit(
        tuple(Arm(arm.id, arm.title) for arm in message.arms),
        tuple(_feature(feature) for feature in message.features),
        "thompson" if message.algorithm == pb.Bandit.THOMPSON else "linucb",
        message.exploration if message.HasField("exploration") else None,
        message.random_share,
        message.regularisation,
        message.decay,
        message.seed,
        message.min_reward,
        message.max_reward,
        message.reward_horizon.ToTimedelta().total_seconds() if message.HasField("reward_horizon") else None,
    )


def show_bandit(body: Bandit) -> pb.Bandit:
    """The fields of a bandit that are its own."""
    message = pb.Bandit(
        algorithm=pb.Bandit.THOMPSON if body.algorithm == "thompson" else pb.Bandit.LIN_UCB,
        exploration=body.exploration,
        random_share=body.random_share,
        regularisation=body.regularisation,
        decay=body.decay,
        seed=body.seed,
        min_reward=body.min_reward,
        max_reward=body.max_reward,
    )
    for arm in body.arms:
        message.arms.add(id=arm.id, title=arm.title)
    for feature in body.features:
        message.features.add(
            name=feature.name,
            type=_TYPES[feature.kind],
            min=feature.low,
            max=feature.high,
            categories=feature.categories,
        )
    if body.horizon_s is not None:
        message.reward_horizon.CopyFrom(_duration(body.horizon_s))
    return message


def choice_message(body: Bandit, chosen: Chosen, top_k: int) -> pb.ChooseResponse:
    """A choice, and why, in the bandit's units of rewards."""
    verdict, span = chosen.verdict, body.top_reward - body.min_reward
    arm = body.arms[verdict.arm]
    message = pb.ChooseResponse(
        choice_id=chosen.id,
        arm=arm.id,
        probability=float(verdict.probabilities[verdict.arm]),
        random=verdict.random,
    )
    order = np.argsort(-verdict.scores, kind="stable")
    for at in order[: top_k or _SHOWN]:
        message.scores.add(
            arm=body.arms[at].id,
            score=body.min_reward + span * float(verdict.scores[at]),
            expected_reward=body.min_reward + span * float(verdict.expected[at]),
            uncertainty=span * float(verdict.uncertainty[at]),
            probability=float(verdict.probabilities[at]),
        )
    if body.features:
        for at, (name, part) in enumerate(Encoder(body.features).by_feature(chosen.parts)):
            lowest = 0.0 if at else body.min_reward
            message.contributions.add(feature=name, contribution=lowest + span * part)
    message.text = _text(body, message, verdict.arm == int(order[0]))
    return message


def report_message(found: Learnt) -> pb.ReportBanditResponse:
    """What a bandit has learnt, in its units of rewards."""
    body, beliefs = found.entry.body, found.beliefs
    span, names = body.top_reward - body.min_reward, list(Encoder(body.features).names())
    message = pb.ReportBanditResponse(choice_count=found.counts.choices, reward_count=found.counts.updates)
    for at, arm in enumerate(body.arms):
        count = float(beliefs.count[at])
        said = message.arms.add(arm=arm.id, reward_count=count)
        if count:
            said.mean_reward = body.min_reward + span * float(beliefs.total[at]) / count
        for place, (name, weight) in enumerate(zip(names, beliefs.weights[at].tolist(), strict=True)):
            lowest = 0.0 if place else body.min_reward
            said.weights.add(feature=name, contribution=lowest + span * weight)
        outcome = found.outcomes.get(arm.id)
        if outcome is not None:
            said.always_reward = outcome.weighted / outcome.weights
            said.effective_count = outcome.weights**2 / outcome.squares
    return message


def _feature(message: pb.Feature) -> Feature:
    """A feature as it is sent; the contract lets no other type than these through."""
    kind = {"number": "number", "category": "category"}.get(_KINDS.get(message.type, ""), "flag")
    return Feature(message.name, kind, message.min, message.max, tuple(message.categories))  # type: ignore[arg-type]


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def _text(body: Bandit, message: pb.ChooseResponse, is_best: bool) -> str:
    """Why it was this arm."""
    if len(body.arms) == 1:
        return f"{message.arm} is the only arm"
    if message.random and not is_best:
        return f"{message.arm} was taken at random, as {body.random_share:.0%} of choices are"
    best, second = message.scores[0], message.scores[1] if len(message.scores) > 1 else None
    if second is not None and abs(best.score - second.score) < 1e-9:
        return f"{message.arm} is one of several whose score is {best.score:.3f}; chance decided between them"
    verb = "drawn" if body.algorithm == "thompson" else "at best"
    said = f"{message.arm} scores {best.score:.3f} ({verb}; {best.expected_reward:.3f} expected)"
    if second is not None:
        said += f", {second.arm} {second.score:.3f} ({second.expected_reward:.3f} expected)"
    parts = sorted(message.contributions[1:], key=lambda each: -abs(each.contribution))[:_NAMED]
    named = [f"{each.feature} {each.contribution:+.3f}" for each in parts if each.contribution]
    return f"{said}; most of it from {', '.join(named)}" if named else said
