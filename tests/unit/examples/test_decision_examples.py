"""The examples of decisions, rankings and bandits are what the engine takes, and say what they say they do."""

from __future__ import annotations

from pathlib import Path

import yaml
from tiation.engine.v1 import bandit_pb2, ranking_pb2

from cli.document import open_document
from engine.decisions.bandits.resource import check_bandit
from engine.decisions.evaluation import Evaluator
from engine.decisions.examples import Example, run_examples
from engine.decisions.explanation import rules_of
from engine.servicers.bandit_messages import bandit_of
from engine.servicers.rankings import RankingServicer
from mesh.sandbox import SandboxPool
from mesh.sandboxed.recent import Recent

EXAMPLES = Path(__file__).parents[3] / "examples"
FOLDER = EXAMPLES / "support-triage"


async def test_the_routing_answers_its_examples_which_make_every_rule_fire():
    graph = (FOLDER / "support-routing.json").read_text()
    examples = [
        Example(**each) for each in yaml.safe_load((FOLDER / "support-routing.examples.yaml").read_text())["examples"]
    ]
    sandbox = SandboxPool()
    evaluator = Evaluator(sandbox, "routing", graph, "default", Recent(1, 1 << 20))
    results = await run_examples(examples, evaluator.evaluate)
    await sandbox.close()
    assert [result.name for result in results if not result.passed] == []
    fired = {rule.id for result in results if result.answer for step in result.answer.steps for rule in step.rules}
    assert fired == {rule for _, rule, _ in rules_of(evaluator.nodes)}


async def test_the_suppliers_are_ranked_and_the_valley_is_best():
    request = open_document(EXAMPLES / "supplier-choice" / "suppliers.yaml").fill(ranking_pb2.RankRequest())
    answer = await RankingServicer().Rank(request, None)
    assert [each.name for each in answer.ranked] == ["valley", "north", "harbour"]
    assert answer.text.startswith("valley scores 0.673, north 0.433")


def test_the_styles_of_replies_are_a_bandit_that_the_engine_keeps():
    message = open_document(EXAMPLES / "reply-style" / "bandit.yaml").fill(bandit_pb2.Bandit(), without="name")
    made = bandit_of(message)
    check_bandit(made)
    assert [arm.id for arm in made.arms] == ["brief", "thorough", "warm"]
