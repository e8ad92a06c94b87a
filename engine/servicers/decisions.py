"""DecisionService."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from google.protobuf import empty_pb2
from tiation.engine.v1 import decision_pb2 as pb
from tiation.engine.v1 import decision_pb2_grpc

from engine.decisions.evaluation import Evaluator
from engine.decisions.examples import Example, check_examples, refuse_failed, run_examples
from engine.decisions.explanation import Graph, rules_of
from engine.decisions.graphs import Decision, Decisions, DecisionVersion, number_of
from engine.repository.aliases import share_of
from engine.servicers.decision_messages import (
    answer_message,
    decision_of,
    examples_of,
    result_message,
    show_decision,
    show_version,
)
from mesh.call import Context
from mesh.entries import Entry, entry_etag
from mesh.errors import InvalidError
from mesh.etag import StaleEtagError
from mesh.json_value import value_to_json
from mesh.masks import masked_fields
from mesh.pagination import Pages
from mesh.resource import tenant_of
from mesh.sandbox import SandboxPool
from mesh.sandboxed.recent import Recent
from mesh.shelf import Shelf

__all__ = ["DecisionServicer"]

_CHANGEABLE = ("graph", "examples", "aliases", "labels")
_TRIES = 5
"""How often a change that nobody bound to an etag is tested anew, because others came first."""
_MAX_UNUSED = 256
_KNOWN_BYTES = 16 << 20
"""Of graphs whose nodes are remembered."""


class DecisionServicer(decision_pb2_grpc.DecisionServiceServicer):
    """Keeps, tests and evaluates decisions.

    Args:
        decisions: the core.
        pages: makes and checks page tokens.
        sandbox: where graphs are checked and evaluated.
        draw: a number from 0 to 1, for a request to an alias of several versions.
    """

    def __init__(
        self, decisions: Decisions, pages: Pages, sandbox: SandboxPool, draw: Callable[[], float] = random.random
    ) -> None:
        self._draw = draw
        self._shelf: Shelf[Decision, pb.Decision] = Shelf(
            decisions, pages, Decision, "decisions", show_decision, decision_of, _CHANGEABLE
        )
        self._versions: Shelf[DecisionVersion, pb.DecisionVersion] = Shelf(
            decisions, pages, DecisionVersion, "versions", show_version, lambda _: DecisionVersion("")
        )
        self._decisions = decisions
        self._sandbox = sandbox
        self._known: Recent[Graph] = Recent(256, _KNOWN_BYTES)

    async def GetDecision(self, request: pb.GetDecisionRequest, _: Context) -> pb.Decision:
        """One decision."""
        return await self._shelf.get(request.name)

    async def ListDecisions(self, request: pb.ListDecisionsRequest, _: Context) -> pb.ListDecisionsResponse:
        """A page of decisions, without their examples."""
        decisions, token = await self._shelf.list(request.parent, request)
        for decision in decisions:
            decision.ClearField("examples")
        return pb.ListDecisionsResponse(decisions=decisions, next_page_token=token)

    async def CreateDecision(self, request: pb.CreateDecisionRequest, _: Context) -> pb.Decision:
        """A new decision that answers its examples."""
        name = self._shelf.name(request.parent, request.decision_id)
        body = decision_of(request.decision)
        await self._check(name, body)
        return self._shelf.message(
            await self._shelf.create(name, request.decision, request, body, validate_only=request.validate_only)
        )

    async def UpdateDecision(self, request: pb.UpdateDecisionRequest, _: Context) -> pb.Decision:
        """A changed decision; another graph, or other examples, are another version."""
        sent = request.decision
        fields = masked_fields(sent, request.update_mask, _CHANGEABLE)
        read = decision_of(sent)
        changed: dict[str, Any] = {field: getattr(read, field) for field in fields if field != "labels"}
        change = self._decisions.changer(changed, dict(sent.labels) if "labels" in fields else None)
        for left in reversed(range(_TRIES)):
            current = await self._decisions.get(Decision, sent.name)
            if changed.keys() & {"graph", "examples"}:
                await self._check(sent.name, change(current).body)
            try:
                updated = await self._decisions.update(
                    Decision, sent.name, sent.etag or entry_etag(current), change, validate_only=request.validate_only
                )
            except StaleEtagError:
                if sent.etag or not left:
                    raise
            else:
                break
        return self._shelf.message(updated)

    async def DeleteDecision(self, request: pb.DeleteDecisionRequest, _: Context) -> empty_pb2.Empty:
        """One decision less."""
        await self._shelf.delete(request.name, request.etag)
        return empty_pb2.Empty()

    async def GetDecisionVersion(self, request: pb.GetDecisionVersionRequest, _: Context) -> pb.DecisionVersion:
        """One version."""
        return self._version(await self._decisions.get(DecisionVersion, request.name))

    async def ListDecisionVersions(
        self, request: pb.ListDecisionVersionsRequest, _: Context
    ) -> pb.ListDecisionVersionsResponse:
        """A page of a decision's versions, without what makes them large."""
        versions, token = await self._versions.list(request.parent, request)
        for version in versions:
            version.version = number_of(version.name)
            version.ClearField("graph")
            version.ClearField("examples")
        return pb.ListDecisionVersionsResponse(decision_versions=versions, next_page_token=token)

    async def TestDecision(self, request: pb.TestDecisionRequest, _: Context) -> pb.TestDecisionResponse:
        """How examples are answered."""
        kept, version = await self._decisions.version(request.name, request.version)
        examples = examples_of(request.examples, "examples") or kept.examples
        check_examples(examples, "examples")
        evaluator = self._evaluator(request.name, request.graph or kept.graph)
        await evaluator.check()
        results = await run_examples(examples, evaluator.evaluate)
        passed = sum(result.passed for result in results)
        answer = pb.TestDecisionResponse(version=version, passed_count=passed, failed_count=len(results) - passed)
        answer.results.extend(result_message(result) for result in results)
        used = {
            (step.node, rule.id)
            for result in results
            if result.answer is not None
            for step in result.answer.steps
            for rule in step.rules
        }
        unused = [called for node, rule, called in rules_of(evaluator.nodes) if (node, rule) not in used]
        answer.unused_rules.extend(unused[:_MAX_UNUSED])
        return answer

    async def Decide(self, request: pb.DecideRequest, _: Context) -> pb.DecideResponse:
        """What a decision comes to with these facts."""
        kept, version = await self._asked(request)
        facts = value_to_json(request.input, "input")
        answer = await self._evaluator(request.name, kept.graph).evaluate(facts, traced=request.trace)
        return answer_message(answer, version, trace=request.trace)

    async def BatchDecide(self, request: pb.BatchDecideRequest, _: Context) -> pb.BatchDecideResponse:
        """What a decision comes to with each of these facts."""
        kept, version = await self._asked(request)
        inputs = [value_to_json(facts, f"inputs[{at}]") for at, facts in enumerate(request.inputs)]
        answers = await self._evaluator(request.name, kept.graph).evaluate_all(inputs)
        return pb.BatchDecideResponse(answers=[answer_message(answer, version) for answer in answers])

    async def _asked(self, request: pb.DecideRequest | pb.BatchDecideRequest) -> tuple[DecisionVersion, int]:
        """The version that a request asks."""
        if request.version and request.alias:
            raise InvalidError("alias", "goes without `version`; send one of them")
        share = share_of(request.name, request.sticky_key) if request.sticky_key else self._draw()
        return await self._decisions.version(request.name, request.version, alias=request.alias, share=share)

    def _evaluator(self, name: str, graph: str) -> Evaluator:
        return Evaluator(self._sandbox, name, graph, tenant_of(name), self._known)

    async def _check(self, name: str, body: Decision) -> None:
        """See that a graph can run, and answers its examples.

        Raises:
            DecisionExamplesError: it does not.
            InvalidError: the examples cannot be kept.
            SandboxError: the graph is wrong.
        """
        examples: tuple[Example, ...] = body.examples
        check_examples(examples, "decision.examples")
        evaluator = self._evaluator(name, body.graph)
        await evaluator.check()
        refuse_failed(await run_examples(examples, evaluator.evaluate))

    def _version(self, entry: Entry[DecisionVersion]) -> pb.DecisionVersion:
        message = self._versions.message(entry)
        message.version = number_of(entry.name)
        return message
