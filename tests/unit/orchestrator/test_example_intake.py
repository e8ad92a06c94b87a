"""The document-intake example: amounts are read, its own table says when to ask, what is answered is filed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zen

from orchestrator.flow.check import FlowChecker
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import Memory, a_run, carry_out

EXAMPLE = Path(__file__).parents[3] / "examples" / "document-intake"
DOCUMENTS = json.loads((EXAMPLE / "documents.json").read_text())
TABLE = zen.ZenEngine().create_decision((EXAMPLE / "intake-rules.json").read_text())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["id"])
def test_a_document_is_asked_about_or_not_and_filed_as_decided(stage, document):
    filed = []
    answers = {
        "infer": lambda given: {"label": [document["kind"]], "score": [0.8]},
        "decide": lambda given: TABLE.evaluate(given["input"])["result"],
        "connect": lambda given: filed.append(given["input"]),
    }
    flow = stage.run(
        FlowChecker(stage.sandbox).check(
            (EXAMPLE / "agent.yaml").read_text(), agent_id="document-intake", tenant="default"
        )
    )
    memory, calls, asked = Memory(), FakeCalls(answers), 0
    given = {"id": document["id"], "text": document["text"]}
    while memory.ended is None:
        assert asked <= 1
        stage.run(carry_out(flow, a_run(given), memory, calls, stage.sandbox))
        if memory.ended is None:
            memory.answer(memory.pending()[0], document["answer"])
            asked += 1
    state, output, problem = memory.ended
    assert (state, problem) == ("SUCCEEDED", None)
    assert bool(asked) == document["asks"]
    assert [(row["id"], row["amount"], row["status"]) for row in filed] == [
        (document["id"], document["amount"], document["status"])
    ]
    assert output["book"] != "unsorted"
    assert output["status"] == document["status"]
    assert (output["by"] == "the rules") != document["asks"]
