"""The routing of support triage answers its own examples, and they leave no rule out."""

from __future__ import annotations

from pathlib import Path

import yaml

from engine.decisions.evaluation import Evaluator
from engine.decisions.examples import Example, run_examples
from engine.decisions.explanation import rules_of
from mesh.sandbox import SandboxPool
from mesh.sandboxed.recent import Recent

FOLDER = Path(__file__).parents[3] / "examples" / "support-triage"


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
