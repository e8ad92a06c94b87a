"""BanditService."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from google.protobuf import empty_pb2
from tiation.engine.v1 import bandit_pb2 as pb
from tiation.engine.v1 import bandit_pb2_grpc

from engine.decisions.bandits.learning import Learner
from engine.decisions.bandits.resource import Bandit, Bandits
from engine.servicers.bandit_messages import bandit_of, choice_message, report_message, show_bandit
from mesh.call import Context
from mesh.entries import Entry
from mesh.errors import InvalidError
from mesh.json_value import value_to_json
from mesh.masks import masked_fields
from mesh.pagination import Pages
from mesh.shelf import Shelf

__all__ = ["BanditServicer"]

_CHANGEABLE = (
    "arms", "algorithm", "exploration", "random_share", "regularisation", "decay", "seed", "reward_horizon", "labels",
)  # fmt: skip
_FIXED = ("features", "min_reward", "max_reward")
_NAMED_ELSE = {"reward_horizon": "horizon_s"}
"""Fields of the contract that the core calls by another name."""


class BanditServicer(bandit_pb2_grpc.BanditServiceServicer):
    """Keeps bandits, lets them choose, and tells them what came of it.

    Args:
        bandits: knows the resources.
        learner: knows what they have learnt.
        pages: makes and checks page tokens.
    """

    def __init__(self, bandits: Bandits, learner: Learner, pages: Pages) -> None:
        self._shelf: Shelf[Bandit, pb.Bandit] = Shelf(bandits, pages, Bandit, "bandits", show_bandit, bandit_of)
        self._bandits = bandits
        self._learner = learner

    async def GetBandit(self, request: pb.GetBanditRequest, _: Context) -> pb.Bandit:
        """One bandit."""
        return await self._shelf.get(request.name)

    async def ListBandits(self, request: pb.ListBanditsRequest, _: Context) -> pb.ListBanditsResponse:
        """A page of bandits."""
        bandits, token = await self._shelf.list(request.parent, request)
        return pb.ListBanditsResponse(bandits=bandits, next_page_token=token)

    async def CreateBandit(self, request: pb.CreateBanditRequest, _: Context) -> pb.Bandit:
        """A new bandit, which knows nothing yet."""
        name = self._shelf.name(request.parent, request.bandit_id)
        return self._shelf.message(
            await self._shelf.create(name, request.bandit, request, validate_only=request.validate_only)
        )

    async def UpdateBandit(self, request: pb.UpdateBanditRequest, _: Context) -> pb.Bandit:
        """A changed bandit; what it has learnt of arms that stay is kept."""
        sent, read = request.bandit, bandit_of(request.bandit)
        fields = masked_fields(sent, request.update_mask, (*_CHANGEABLE, *_FIXED))
        if list(request.update_mask.paths) == ["*"]:
            fields -= set(_FIXED)
        changed: dict[str, Any] = {}
        for field in fields - {"labels"}:
            own = _NAMED_ELSE.get(field, field)
            changed[own] = getattr(read, own)

        def change(entry: Entry[Bandit]) -> Entry[Bandit]:
            body = msgspec.structs.replace(entry.body, **changed)
            for field in _FIXED:
                if getattr(body, field) != getattr(entry.body, field):
                    raise InvalidError(
                        f"bandit.{field}", "cannot be changed: what was learnt stands on it; make another one"
                    )
            return replace(entry, body=body, labels=dict(sent.labels) if "labels" in fields else entry.labels)

        updated = await self._bandits.update(Bandit, sent.name, sent.etag, change, validate_only=request.validate_only)
        return self._shelf.message(updated)

    async def DeleteBandit(self, request: pb.DeleteBanditRequest, _: Context) -> empty_pb2.Empty:
        """One bandit less, with all that it has learnt."""
        await self._shelf.delete(request.name, request.etag)
        return empty_pb2.Empty()

    async def Choose(self, request: pb.ChooseRequest, _: Context) -> pb.ChooseResponse:
        """An arm, and why."""
        context = value_to_json(request.context, "context")
        entry, (chosen,) = await self._learner.choose(request.name, [context], ["context"])
        return choice_message(entry.body, chosen, request.top_k)

    async def BatchChoose(self, request: pb.BatchChooseRequest, _: Context) -> pb.BatchChooseResponse:
        """An arm for each context."""
        fields = [f"contexts[{at}]" for at in range(len(request.contexts))]
        contexts = [value_to_json(context, field) for context, field in zip(request.contexts, fields, strict=True)]
        entry, chosen = await self._learner.choose(request.name, contexts, fields)
        return pb.BatchChooseResponse(choices=[choice_message(entry.body, each, request.top_k) for each in chosen])

    async def Reward(self, request: pb.RewardRequest, _: Context) -> pb.RewardResponse:
        """What came of a choice."""
        told = await self._learner.reward(request.name, request.choice_id, request.reward)
        return pb.RewardResponse(arm=told.arm, learnt=told.learnt)

    async def ReportBandit(self, request: pb.ReportBanditRequest, _: Context) -> pb.ReportBanditResponse:
        """What a bandit has learnt."""
        return report_message(await self._learner.report(request.name))
