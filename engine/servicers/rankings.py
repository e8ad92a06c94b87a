"""RankingService."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tiation.engine.v1 import ranking_pb2 as pb
from tiation.engine.v1 import ranking_pb2_grpc

from engine.decisions.ranking import (
    Criterion,
    Floats,
    Matrix,
    Method,
    Normalisation,
    Problem,
    matrix_of,
    order_of,
    places_of,
    score,
)
from engine.decisions.sensitivity import Stability, Turn, stability, turns
from mesh.call import Context
from mesh.errors import InvalidError

__all__ = ["RankingServicer"]

_VARIATION = 0.1
_TRIALS = 1000
_MAX_TRIED = 1 << 24
"""Scores that all trials may compute."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Found:
    """An order with all that is said about it; arrays have an entry for each alternative."""

    matrix: Matrix
    scores: Floats
    order: NDArray[np.intp]
    places: NDArray[np.intp]
    turns: list[Turn | None]
    stability: Stability


class RankingServicer(ranking_pb2_grpc.RankingServiceServicer):
    """Ranks alternatives, in a thread: it computes for up to a second."""

    async def Rank(self, request: pb.RankRequest, _: Context) -> pb.RankResponse:
        """An order, and what it stands on."""
        return await asyncio.to_thread(_rank, request)


def _rank(request: pb.RankRequest) -> pb.RankResponse:
    problem = _problem(request)
    trials = request.trial_count or _TRIALS
    cells = len(problem.names) * len(problem.criteria)
    if cells * trials > _MAX_TRIED:
        raise InvalidError("trial_count", f"may be at most {_MAX_TRIED // cells} with so many values")
    matrix = matrix_of(problem)
    scores = score(matrix, matrix.weights)
    order = order_of(scores)
    varied = stability(matrix, variation=request.weight_variation or _VARIATION, trials=trials, seed=request.seed)
    found = _Found(matrix, scores, order, places_of(scores), turns(matrix, int(order[0])), varied)
    answer = pb.RankResponse(
        ranked=[_ranked(problem, found, int(at)) for at in order],
        winner_stability=float(varied.first[order[0]]),
        text=_text(problem, found),
    )
    for criterion, weight, turn in zip(problem.criteria, matrix.weights, found.turns, strict=True):
        said = answer.sensitivities.add(criterion=criterion.name, weight=float(weight), changes=turn is not None)
        if turn is not None:
            said.new_weight, said.new_winner = turn.weight, problem.names[turn.winner]
    return answer


def _problem(request: pb.RankRequest) -> Problem:
    """What the request asks.

    Raises:
        InvalidError: an alternative lacks a criterion's value, or has one of none.
    """
    criteria = tuple(
        Criterion(each.name, each.weight, each.direction == pb.Criterion.COST) for each in request.criteria
    )
    known = {criterion.name for criterion in criteria}
    rows = []
    for at, alternative in enumerate(request.alternatives):
        for name in alternative.values:
            if name not in known:
                raise InvalidError(f"alternatives[{at}].values[{name}]", "there is no such criterion")
        for name in known:
            if name not in alternative.values:
                raise InvalidError(f"alternatives[{at}].values[{name}]", "is missing; every criterion needs a value")
        rows.append(tuple(alternative.values[criterion.name] for criterion in criteria))
    method = Method.TOPSIS if request.method == pb.RankRequest.TOPSIS else Method.WEIGHTED_SUM
    usual = Normalisation.VECTOR if method is Method.TOPSIS else Normalisation.MIN_MAX
    normalisation = Normalisation(request.normalisation) if request.normalisation else usual
    return Problem(criteria, tuple(each.name for each in request.alternatives), tuple(rows), method, normalisation)


def _ranked(problem: Problem, found: _Found, at: int) -> pb.Ranked:
    matrix = found.matrix
    message = pb.Ranked(
        name=problem.names[at],
        place=int(found.places[at]),
        score=float(found.scores[at]),
        best_place=int(found.stability.best[at]),
        worst_place=int(found.stability.worst[at]),
        first_share=float(found.stability.first[at]),
    )
    for column, criterion in enumerate(problem.criteria):
        weight = float(matrix.weights[column])
        part = message.contributions.add(
            criterion=criterion.name,
            value=problem.values[at][column],
            normalised=float(matrix.normalised[at, column]),
            weight=weight,
        )
        if matrix.method is Method.WEIGHTED_SUM:
            part.contribution = weight * float(matrix.parts[at, column])
        else:
            part.distance_to_best = weight * float(np.sqrt(matrix.to_best[at, column]))
            part.distance_to_worst = weight * float(np.sqrt(matrix.to_worst[at, column]))
    return message


def _text(problem: Problem, found: _Found) -> str:
    """Why the first is first."""
    first = int(found.order[0])
    if len(problem.names) == 1:
        return f"{problem.names[first]} is the only one"
    second = int(found.order[1])
    said = (
        f"{problem.names[first]} scores {found.scores[first]:.3f}, {problem.names[second]} {found.scores[second]:.3f}"
    )
    if found.places[second] == 1:
        return f"{said}: they are equally good, and {problem.names[first]} was named first"
    leads = found.matrix.weights * (found.matrix.parts[first] - found.matrix.parts[second])
    best = [at for at in np.argsort(-np.abs(leads), kind="stable")[:_SHOWN] if leads[at]]
    for against, words in ((False, "ahead in"), (True, "behind in")):
        named = [problem.criteria[at].name for at in best if bool(leads[at] < 0) is against]
        if named:
            said += f"; {words} {', '.join(named)}"
    return said
