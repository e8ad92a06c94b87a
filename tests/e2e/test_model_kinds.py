"""Models of every kind, pushed by the command and asked through the front door: as REST, as gRPC and as tensors."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from tiation.engine.v1 import prediction_pb2, prediction_pb2_grpc

from tests.fakes.drawings import file_of, written
from tests.fakes.installed import Installed
from tests.unit.engine.graphs import folder as model_folder
from tests.unit.engine.image_graphs import one_table, squares
from tests.unit.engine.tables import TOWNS, price_pipeline
from tests.unit.engine.test_entities import MANIFEST, ROWS, WORDS, said
from tests.unit.engine.text_graphs import lookup, tagging, text_folder, tokenizer

GOOD = base64.b64encode(file_of(written(3))).decode()


def tensors_of(here: Installed, model: str, name: str, values: list[bytes]) -> list[bytes]:
    """The elements of the only output, of BYTES."""
    with here.channel() as channel:
        request = grpc_service_pb2.ModelInferRequest(model_name=model)
        request.inputs.add(name=name, datatype="BYTES", shape=[len(values)]).contents.bytes_contents.extend(values)
        answer = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
    found, at, content = [], 0, answer.raw_output_contents[0]
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "little")
        found.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def ask(here: Installed, method: str, request):
    with here.channel() as channel:
        return getattr(prediction_pb2_grpc.PredictionServiceStub(channel), method)(request, timeout=30)


def test_entities_are_found_alike_by_every_way_to_ask(home_of_all: Installed, tmp_path: Path):
    made = tokenizer(WORDS, pieces=True)
    manifest = MANIFEST.replace("name: m", "name: people")
    folder = text_folder(tmp_path / "people", manifest, made, tagging(lookup(made.get_vocab(), ROWS, [4, 0, 0, 0, 0])))
    home_of_all.command("models", "push", str(folder))
    texts = ["Anna Smith lives in Zürich", "", "🙂 New York"]
    name = "tenants/default/models/people"
    typed = ask(home_of_all, "ExtractEntities", prediction_pb2.ExtractEntitiesRequest(name=name, texts=texts))
    assert [said(text, found.entities) for text, found in zip(texts, typed.extractions, strict=True)] == [
        [("PER", "Anna Smith"), ("LOC", "Zürich")], [], [("LOC", "New York")],
    ]  # fmt: skip
    with home_of_all.rest() as client:
        answer = client.post(f"/v1/{name}:extractEntities", json={"texts": texts})
        wrong = client.post(f"/v1/{name}:classify", json={"texts": texts})
        low = client.post(f"/v1/{name}:extractEntities", json={"texts": texts, "minScore": 2})
    assert json_format.ParseDict(answer.json(), prediction_pb2.ExtractEntitiesResponse()) == typed
    assert [wrong.status_code, low.status_code] == [400, 400]
    assert "min_score" in low.text
    lists = [json.loads(each) for each in tensors_of(home_of_all, "people", "text", [text.encode() for text in texts])]
    assert [[(each["start"], each["end"]) for each in entities] for entities in lists] == [
        [(each.start, each.end) for each in found.entities] for found in typed.extractions
    ]
    shown = home_of_all.command("models", "extract-entities", "people", "--text", texts[0]).stdout
    assert "Anna Smith" in shown


def test_labels_come_with_the_request_or_from_the_manifest(home_of_all: Installed, tmp_path: Path):
    folder = tmp_path / "topics"
    folder.mkdir()
    labels = "[sport, {label: money, description: invoices and payments}]"
    manifest = f"name: topics\nkind: zero-shot-classification\nbackbone: all-minilm-l6-v2\nlabels: {labels}\n"
    (folder / "model.yaml").write_text(manifest)
    home_of_all.command("models", "push", str(folder))
    name, text = "tenants/default/models/topics", "The striker scored twice in the final"
    own = home_of_all.json("models", "classify", "topics", "--text", text, "--text", "You charged me twice")
    assert [each["label"] for each in own["classifications"]] == ["sport", "money"]
    asked = prediction_pb2.ClassifyRequest(name=name, texts=[text], top_k=2, multi_label=True)
    asked.labels.add(label="cooking")
    asked.labels.add(label="games", description="sport")
    typed = ask(home_of_all, "Classify", asked)
    assert typed.classifications[0].label == "games"
    body = {
        "texts": [text],
        "topK": 2,
        "multiLabel": True,
        "labels": [{"label": "cooking"}, {"label": "games", "description": "sport"}],
    }
    with home_of_all.rest() as client:
        answer = client.post(f"/v1/{name}:classify", json=body)
        other = client.post(
            "/v1/tenants/system/models/digits:classify", json={"images": ["aGk="], "labels": [{"label": "a"}]}
        )
        twice = client.post(f"/v1/{name}:classify", json={"texts": [text], "labels": [{"label": "a"}] * 2})
    assert json_format.ParseDict(answer.json(), prediction_pb2.ClassifyResponse()) == typed
    assert [other.status_code, twice.status_code] == [400, 400]
    assert "labels: tenants/system/models/digits has labels of its own" in other.json()["message"]
    assert "labels: holds 'a' twice" in twice.json()["message"]


def test_things_are_found_in_images_alike_by_every_way_to_ask(home_of_all: Installed, tmp_path: Path):
    manifest = (
        "name: squares\nkind: object-detection\nscale: [0, 1]\nlabels: [red, green, blue]\nmin_score: 0.7\nfill: 0\n"
    )
    folder = model_folder(tmp_path / "squares", manifest, model=one_table())
    assert "unit: pixels" in home_of_all.command("models", "push", str(folder)).stdout
    file = file_of(squares(320, 240, [("red", 40, 40, 40), ("green", 160, 80, 40)]))
    name = "tenants/default/models/squares"
    typed = ask(home_of_all, "Detect", prediction_pb2.DetectRequest(name=name, images=[file, file]))
    first = typed.results[0]
    assert (first.width, first.height) == (320, 240)
    boxes = {each.label: [each.box.x_min, each.box.y_min, each.box.x_max, each.box.y_max] for each in first.detections}
    assert boxes == {"red": [40, 40, 80, 80], "green": [160, 80, 200, 120]}
    encoded = base64.b64encode(file).decode()
    with home_of_all.rest() as client:
        answer = client.post(f"/v1/{name}:detect", json={"images": [encoded] * 2})
        part = client.post(f"/v1/{name}:detect", json={"images": [encoded], "normalised": True, "maxDetections": 1})
        wrong = client.post(f"/v1/{name}:detect", json={"images": [encoded, "R0lGODlh"]})
        high = client.post(f"/v1/{name}:detect", json={"images": [encoded], "minScore": 1.5})
    assert json_format.ParseDict(answer.json(), prediction_pb2.DetectResponse()) == typed
    (only,) = part.json()["results"][0]["detections"]
    assert max(only["box"].values()) <= 1
    assert [wrong.status_code, high.status_code] == [400, 400]
    assert "images[1]: is a GIF" in wrong.json()["message"]
    (tmp_path / "a.png").write_bytes(file)
    shown = home_of_all.command("models", "detect", "squares", "--image", str(tmp_path / "a.png")).stdout
    assert "green" in shown


def test_rows_of_named_values_are_answered_alike_by_every_way_to_ask(home_of_all: Installed, tmp_path: Path):
    manifest = "name: prices\nkind: tabular\ncolumns: [{name: area, missing: 80}, town]\n"
    manifest += "background: [{area: 80, town: Bern}, {area: 120, town: Basel}]\n"
    folder = model_folder(tmp_path / "prices", manifest, model=price_pipeline())
    assert "task: regression" in home_of_all.command("models", "push", str(folder)).stdout
    name, records = "tenants/default/models/prices", [{"area": 100, "town": "Bern"}, {"town": TOWNS[2]}]
    request = prediction_pb2.RegressRequest(name=name)
    for record in records:
        request.records.add().update(record)
    typed = ask(home_of_all, "Regress", request)
    assert [each.values[0] for each in typed.regressions] == pytest.approx([100_000, 180_000], rel=1e-3)
    with home_of_all.rest() as client:
        answer = client.post(f"/v1/{name}:regress", json={"records": records})
        wrong = client.post(f"/v1/{name}:regress", json={"records": [records[0], {"area": "big", "town": "Bern"}]})
        nested = client.post(f"/v1/{name}:regress", json={"records": [{"area": [1], "town": "Bern"}]})
        both = client.post(f"/v1/{name}:regress", json={"records": records, "rows": [{"values": [1, 2]}]})
        labels = client.post(f"/v1/{name}:classify", json={"records": records})
        why = client.post(f"/v1/{name}:regress", json={"records": records[:1], "explain": True})
        unwilling = client.post("/v1/tenants/system/models/digits:classify", json={"images": [GOOD], "explain": True})
    assert json_format.ParseDict(answer.json(), prediction_pb2.RegressResponse()) == typed
    explanation = why.json()["regressions"][0]["explanations"][0]
    assert (explanation["method"], explanation["unit"]) == ("METHOD_SUBSETS", "UNIT_VALUE")
    moved = {each["column"]: each["value"] for each in explanation["attributions"]}
    assert explanation["base"] + sum(moved.values()) == pytest.approx(explanation["value"], rel=1e-5)
    assert moved == pytest.approx({"area": 0, "town": -25_000}, abs=100)
    assert "explain: tenants/system/models/digits does not say why" in unwilling.json()["message"]
    assert {each.status_code for each in (wrong, nested, both, labels)} == {400}
    assert "records[1]: area: is the text 'big'" in wrong.json()["message"]
    assert "records[0]: area: is a list or an object" in nested.json()["message"]
    assert "ask Regress" in labels.json()["message"]
    given = json.dumps(records[0])
    shown = home_of_all.command("models", "regress", "prices", "--record", given, "--explain").stdout
    assert "100000" in shown.replace("e+05", "00000")
    assert "town -2.5e+04" in shown
