"""Asking models in their own words, through the front door, as REST and as gRPC; and the digits example's agent."""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from tiation.engine.v1 import prediction_pb2, prediction_pb2_grpc
from tiation.mesh.v1 import call_record_pb2

from tests.fakes.drawings import file_of, png_of_header, written
from tests.fakes.installed import CLONE, EXAMPLE, Installed
from tools.models.digits import draw, split

DIGITS = "tenants/system/models/digits"
MINILM = "tenants/system/models/all-minilm-l6-v2"
GOLDEN = json.loads((CLONE / "tests" / "data" / "minilm_golden.json").read_text())
TABLES = """
CREATE TABLE readings (id TEXT NOT NULL, label INTEGER NOT NULL, probability REAL NOT NULL);
CREATE TABLE questions (id TEXT NOT NULL, label INTEGER NOT NULL, probability REAL NOT NULL);
"""


def base64_of(*files: bytes) -> list[str]:
    return [base64.b64encode(file).decode() for file in files]


def raw(values: list[bytes]) -> bytes:
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def model_infer(here: Installed, model: str, name: str, values: list[bytes]) -> dict[str, np.ndarray]:
    """The outputs of ModelInfer for one input of BYTES."""
    kinds = {"INT64": np.int64, "FP32": np.float32}
    with here.channel() as channel:
        request = grpc_service_pb2.ModelInferRequest(model_name=model)
        request.inputs.add(name=name, datatype="BYTES", shape=[len(values)])
        request.raw_input_contents.append(raw(values))
        answer = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
    return {
        output.name: np.frombuffer(content, kinds[output.datatype]).reshape(tuple(output.shape))
        for output, content in zip(answer.outputs, answer.raw_output_contents, strict=True)
        if output.datatype in kinds
    }


def classify(here: Installed, request: prediction_pb2.ClassifyRequest) -> prediction_pb2.ClassifyResponse:
    with here.channel() as channel:
        return prediction_pb2_grpc.PredictionServiceStub(channel).Classify(request, timeout=30)


def shipped_usage(here: Installed) -> list[dict[str, int]]:
    """What calls of predictions used up, as their records in security's own database say."""
    database = sqlite3.connect(f"file:{here.home}/security/security.db?mode=ro", uri=True)
    rows = database.execute("SELECT record FROM records WHERE service = 'engine'").fetchall()
    database.close()
    records = [call_record_pb2.CallRecord.FromString(row[0]) for row in rows]
    return [dict(record.usage) for record in records if record.method.startswith("tiation.engine.v1.Prediction")]


def test_digits_answer_alike_over_rest_grpc_and_the_inference_protocol(home_of_all: Installed):
    _, _, held, truths = split()
    kinds = ("PNG", "JPEG", "WEBP")
    files = [draw(image, times=4, file=kinds[at % 3], dark_on_light=at % 2 == 0) for at, image in enumerate(held[:30])]
    tensors = model_infer(home_of_all, "digits", "image", files)
    assert tensors["label"].dtype == np.int64
    assert tensors["probabilities"].shape == (30, 10)
    assert (tensors["label"] == truths[:30]).mean() >= 0.9
    typed = classify(home_of_all, prediction_pb2.ClassifyRequest(name=DIGITS, images=files, top_k=10))
    assert [int(each.label) for each in typed.classifications] == tensors["label"].tolist()
    for each, row in zip(typed.classifications, tensors["probabilities"], strict=True):
        scores = {score.label: score.score for score in each.scores}
        assert [scores[str(column)] for column in range(10)] == row.tolist()
        assert [score.score for score in each.scores] == sorted(row.tolist(), reverse=True)
        assert each.score == row.max()
    with home_of_all.rest() as client:
        answer = client.post(f"/v1/{DIGITS}:classify", json={"images": base64_of(*files), "topK": 10})
    assert answer.status_code == 200, answer.text
    assert json_format.ParseDict(answer.json(), prediction_pb2.ClassifyResponse()) == typed


def test_embeddings_answer_alike_over_rest_grpc_and_the_inference_protocol(home_of_all: Installed):
    texts = GOLDEN["texts"]
    expected = np.array(GOLDEN["embeddings"], np.float32)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    tensors = model_infer(home_of_all, "all-minilm-l6-v2", "text", [text.encode() for text in texts])["embedding"]
    with home_of_all.channel() as channel:
        stub = prediction_pb2_grpc.PredictionServiceStub(channel)
        typed = stub.Embed(prediction_pb2.EmbedRequest(name=MINILM, texts=texts, version=1), timeout=30)
    with home_of_all.rest() as client:
        answer = client.post(f"/v1/{MINILM}:embed", json={"texts": texts})
    assert answer.status_code == 200, answer.text
    for found in (
        tensors,
        np.array([each.values for each in typed.embeddings]),
        np.array([each["values"] for each in answer.json()["embeddings"]]),
    ):
        assert found.shape == expected.shape
        assert (found * expected).sum(axis=1).min() >= 0.9999
    assert typed.version == 1


def test_texts_get_labels_from_a_head_as_its_tensors_say(home_of_all: Installed):
    home_of_all.command("models", "push", str(EXAMPLE / "support-intents"), "--name", "support-intents")
    texts = ["I was charged twice", "what colour was the dog?"]
    tensors = model_infer(home_of_all, "support-intents", "text", [text.encode() for text in texts])
    with home_of_all.rest() as client:
        path = "/v1/tenants/default/models/support-intents:classify"
        answer = client.post(path, json={"texts": texts, "topK": 3}).json()
        bare = client.post(path, json={"texts": texts}).json()
    first, second = answer["classifications"]
    assert first["label"] == "billing"
    assert [first["score"], second["score"]] == pytest.approx(tensors["score"].tolist(), abs=1e-5)
    assert first["scores"][0] == {"label": "billing", "score": first["score"]}
    assert len(first["scores"]) == 3
    assert bare["classifications"][0]["scores"] == []


def test_decisions_are_asked_over_rest(home_of_all: Installed):
    home_of_all.command("decisions", "push", str(EXAMPLE / "support-routing.json"), "--name", "asked-over-rest")
    facts = {"intent": "billing", "score": 0.9, "tier": "free"}
    with home_of_all.rest() as client:
        answer = client.post("/v1/tenants/default/decisions/asked-over-rest:decide", json={"input": facts})
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"]["queue"] == "billing"


GOOD = file_of(written(3))
WRONG = {
    "one image of three": ({"images": base64_of(GOOD, b"GIF89a", GOOD)}, 400, "images[1]: is a GIF"),
    "a bomb": ({"images": base64_of(png_of_header(60000, 60000))}, 400, "images[0]: has more than the 16777216 pixels"),
    "no base64": ({"images": ["!!"]}, 400, ""),
    "nothing": ({}, 400, "holds nothing; tenants/system/models/digits takes `images`"),
    "texts for images": ({"texts": ["a"]}, 400, "holds texts"),
    "texts and images": ({"texts": ["a"], "images": base64_of(GOOD)}, 400, "holds texts and images"),
    "too many": ({"images": base64_of(*[b"x"] * 257)}, 400, "images"),
    "a negative top_k": ({"images": base64_of(GOOD), "topK": -1}, 400, "top_k"),
    "a version that is not": ({"images": base64_of(GOOD), "version": "9"}, 404, "version 9"),
    "an unknown field": ({"pictures": []}, 400, ""),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_question_is_said_once_and_clearly(home_of_all: Installed, case: str):
    body, status, words = WRONG[case]
    with home_of_all.rest() as client:
        answer = client.post(f"/v1/{DIGITS}:classify", json=body)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["message"]
        assert client.post(f"/v1/{DIGITS}:classify", json={"images": base64_of(GOOD)}).status_code == 200


def test_a_model_of_another_kind_or_of_nobody_says_so(home_of_all: Installed):
    with home_of_all.rest() as client:
        embedded = client.post(f"/v1/{DIGITS}:embed", json={"texts": ["a"]})
        classified = client.post(f"/v1/{MINILM}:classify", json={"texts": ["a"]})
        nobody = client.post("/v1/tenants/default/models/never-was:classify", json={"texts": ["a"]})
        others = client.post("/v1/tenants/other/models/digits:classify", json={"texts": ["a"]})
        empty = client.post(f"/v1/{MINILM}:embed", json={"texts": []})
    assert [embedded.status_code, classified.status_code] == [400, 400]
    assert "of the kind text-embedding" in embedded.json()["message"]
    assert [nobody.status_code, others.status_code, empty.status_code] == [404, 404, 400]
    with home_of_all.rest(home_of_all.token(role="viewer")) as viewer:
        assert viewer.post(f"/v1/{DIGITS}:classify", json={"images": base64_of(GOOD)}).status_code == 403


def test_the_record_says_what_was_used_up(home_of_all: Installed):
    with home_of_all.channel() as channel:
        stub = prediction_pb2_grpc.PredictionServiceStub(channel)
        stub.Embed(prediction_pb2.EmbedRequest(name=MINILM, texts=["hello", "hello there"]), timeout=30)
        stub.Classify(prediction_pb2.ClassifyRequest(name=DIGITS, images=[GOOD] * 3), timeout=30)
    wanted = ({"rows": 2, "tokens_in": 7}, {"rows": 3})  # [CLS] hello [SEP], [CLS] hello there [SEP]
    deadline = time.monotonic() + 20
    while not all(each in (usage := shipped_usage(home_of_all)) for each in wanted):
        assert time.monotonic() < deadline, usage
        time.sleep(0.2)


def test_the_command_pushes_says_what_it_saw_and_classifies(home_of_all: Installed, tmp_path: Path):
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    from tests.unit.engine.test_onnx_models import exported

    x, y = load_iris(return_X_y=True)
    classifier = LogisticRegression(max_iter=2000).fit(x.astype(np.float32), y)
    folder = tmp_path / "iris"
    folder.mkdir()
    (folder / "iris.onnx").write_bytes(exported(classifier, x[:1].astype(np.float32)))
    (folder / "model.yaml").write_text("name: three-irises\nkind: onnx\nlabels: [setosa, versicolor, virginica]\n")
    pushed = home_of_all.command("models", "push", str(folder)).stdout
    assert "  file: iris.onnx\n" in pushed
    answer = home_of_all.json(
        "models", "classify", "three-irises", "--row", "5.1,3.5,1.4,0.2", "--row", "6.3,3.3,6,2.5"
    )
    assert [each["label"] for each in answer["classifications"]] == ["setosa", "virginica"]
    (tmp_path / "three.png").write_bytes(GOOD)
    image = str(tmp_path / "three.png")
    shown = home_of_all.command("models", "classify", DIGITS, "--image", image, "--top-k", "2").stdout
    assert "three.png  3" in shown
    wrong = home_of_all.command("models", "classify", "three-irises", "--row", "1,2", check=False)
    assert wrong.returncode == 1
    assert "rows[0]: has 2 numbers; the model takes 4" in wrong.stderr


def test_the_examples_agent_files_images_by_how_sure_it_is(home_of_all: Installed):
    database = home_of_all.home / "integration" / "data" / "digits.db"
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = sqlite3.connect(database)
    connection.executescript(TABLES)
    home_of_all.command("connections", "apply", str(CLONE / "examples" / "digits" / "archive.yaml"))
    home_of_all.command("agents", "apply", str(CLONE / "examples" / "digits" / "agent.yaml"))
    sure, unsure = draw(split()[2][0]), file_of(written(3).rotate(90))
    for name, image in (("sure", sure), ("unsure", unsure)):
        given = json.dumps({"id": name, "image": base64.b64encode(image).decode()})
        home_of_all.command("run", "digit-reader", "--follow", "--input", given)
    broken = json.dumps({"id": "broken", "image": "bm8gaW1hZ2U="})
    failed = home_of_all.command("run", "digit-reader", "--follow", "--input", broken, check=False)
    assert failed.returncode == 1
    assert "image[0]: is no image" in failed.stdout + failed.stderr
    rows = {table: connection.execute(f"SELECT id FROM {table}").fetchall() for table in ("readings", "questions")}
    connection.close()
    assert ("sure",) in rows["readings"]
    assert len(rows["readings"]) + len(rows["questions"]) == 2


def test_a_call_with_a_wrong_image_is_refused_over_grpc_with_its_field(home_of_all: Installed):
    with pytest.raises(grpc.RpcError) as caught:
        classify(home_of_all, prediction_pb2.ClassifyRequest(name=DIGITS, images=[GOOD, b""]))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "images[1]: is empty; send the bytes of a PNG, JPEG or WebP file"
