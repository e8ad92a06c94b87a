"""The model of the document-intake example tells its documents apart, and is sure enough for the decision's table."""

from __future__ import annotations

import json
from pathlib import Path

from engine.manifest import parse_manifest
from engine.servables import Embedder, EncoderClassifier
from tests.unit.engine.graphs import context_of

CLONE = Path(__file__).parents[3]
MINILM = CLONE / ".models" / "all-minilm-l6-v2" / "1"
EXAMPLE = CLONE / "examples" / "document-intake"


async def test_every_document_of_the_example_is_of_the_kind_that_it_says():
    manifest = parse_manifest((MINILM / "model.yaml").read_bytes(), model="all-minilm-l6-v2")
    embedder = Embedder(context_of(MINILM, manifest))
    try:
        kinds = parse_manifest((EXAMPLE / "document-kinds" / "model.yaml").read_bytes(), model="document-kinds")
        classifier = await EncoderClassifier.build(kinds, lambda: embedder)
        documents = json.loads((EXAMPLE / "documents.json").read_text())
        found = await classifier.classify([document["text"] for document in documents])
    finally:
        embedder.close()
    assert list(found.labels) == [document["kind"] for document in documents]
    assert min(found.scores) >= 0.4
