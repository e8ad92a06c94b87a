"""Commands of `models`: which model a name means, what a wrong value is called, and what ends with 1."""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import pytest
from tiation.engine.v1 import model_pb2, model_pb2_grpc, prediction_pb2, prediction_pb2_grpc

from cli.home import Home
from tests.unit.cli.conftest import Tiation, refusal, served

IRIS = "tenants/default/models/iris"
DIGITS = "tenants/system/models/digits"
WRITER = "tenants/system/models/writer"


def version(state: int = model_pb2.ModelVersion.READY, why: str = "") -> model_pb2.ModelVersion:
    made = model_pb2.ModelVersion(name=f"{IRIS}/versions/1", state=state, state_message=why, kind="onnx")
    made.files.add(path="iris.onnx", size_bytes=1234, sha256="ab" * 32)
    made.inputs.add(name="x", datatype="FP32", shape=[-1, 4])
    made.outputs.add(name="label", datatype="BYTES", shape=[-1])
    made.create_time.FromJsonString("2026-01-02T03:04:05Z")
    made.provenance.actor = "tenants/default/principals/ana"
    made.provenance.source.uri = "https://example.com/iris"
    return made


class Models(prediction_pb2_grpc.PredictionServiceServicer, model_pb2_grpc.ModelServiceServicer):
    """One model of the tenant's own and two that ship; answers as the platform does, as far as a command can tell."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.pushed = version()
        self.own = [IRIS]
        self.variant: model_pb2.ModelVariant | None = None

    def _find(self, context, name: str) -> None:
        if name not in (*self.own, DIGITS, WRITER):
            said = f"there is no model `{name}` in memory"
            context.abort_with_status(refusal(grpc.StatusCode.NOT_FOUND, said, "MODEL_NOT_FOUND"))

    def Classify(self, request, context):
        self.asked.append(request)
        self._find(context, request.name)
        answer = prediction_pb2.ClassifyResponse()
        made = answer.classifications.add(label="0", score=0.982)
        for label, score in (("0", 0.982), ("1", 0.018), ("2", 0.0))[: request.top_k]:
            made.scores.add(label=label, score=score)
        if request.explain:
            made.explanation.attributions.add(column="petal", value=-0.25)
            made.explanation.attributions.add(column="sepal", value=0.5)
        return answer

    def Regress(self, request, context):
        self._find(context, request.name)
        answer = prediction_pb2.RegressResponse()
        answer.regressions.add(values=[84])
        return answer

    def Generate(self, request, context):
        self._find(context, request.name)
        yield prediction_pb2.GenerateResponse(text="Once upon", sequence=1)
        finish = prediction_pb2.GenerateResponse.STOP if request.sampling.max_tokens > 5 else 2
        yield prediction_pb2.GenerateResponse(text=" a time", sequence=2, finish=finish, completion_tokens=5)

    def GetModel(self, request, context):
        if request.name not in (*self.own, DIGITS, WRITER):
            said = f"there is no {request.name}"
            context.abort_with_status(refusal(grpc.StatusCode.NOT_FOUND, said, "RESOURCE_NOT_FOUND"))
        return model_pb2.Model(name=request.name, latest_version=1)

    def GetModelVersion(self, request, context):
        made = version()
        if self.variant is not None:
            made.variant.CopyFrom(self.variant)
        return made

    def ListModels(self, request, context):
        names = self.own if request.parent == "tenants/default" else [DIGITS, WRITER]
        return model_pb2.ListModelsResponse(models=[model_pb2.Model(name=name) for name in names])

    def BeginModelUpload(self, request, context):
        return model_pb2.ModelUpload(files=[model_pb2.ReceivedFile(path=file.path) for file in request.files])

    def PushModel(self, requests, context):
        list(requests)
        return self.pushed


@pytest.fixture
def models(home: Home) -> Iterator[Models]:
    made = Models()
    with served(
        home,
        (prediction_pb2_grpc.add_PredictionServiceServicer_to_server, made),
        (model_pb2_grpc.add_ModelServiceServicer_to_server, made),
    ):
        yield made


@pytest.fixture
def run(tiation: Tiation, home: Home, models: Models):
    return lambda *arguments: tiation("models", *arguments, "--home", str(home.path))


def test_a_bare_name_means_the_tenants_own_model_and_else_one_that_ships(run, models):
    assert run("classify", "iris", "--row", "1").code == 0
    assert [each.name for each in models.asked] == [IRIS]
    models.asked.clear()
    assert run("classify", "digits", "--row", "1").code == 0
    assert [each.name for each in models.asked] == ["tenants/default/models/digits", DIGITS]
    assert run("generate", "writer", "Hello").out == "Once upon a time\n"
    assert DIGITS in run("get", "digits").out


def test_a_full_name_means_only_itself(run, models):
    refused = run("classify", "tenants/default/models/digits", "--row", "1")
    assert refused.code == 1
    assert [each.name for each in models.asked] == ["tenants/default/models/digits"]


@pytest.mark.parametrize("verb", [("classify", "irs", "--row", "1"), ("generate", "irs", "hi"), ("get", "irs")])
def test_a_name_that_is_nearly_right_is_guessed(run, verb):
    refused = run(*verb)
    assert refused.code == 1
    assert "there is no model `irs`; did you mean `iris`?" in refused.err


def test_a_name_like_none_gets_no_guess_and_the_services_own_words(run):
    refused = run("classify", "quantum", "--row", "1")
    assert "there is no model `tenants/default/models/quantum` in memory" in refused.err
    assert "did you mean" not in refused.err


def test_a_tenant_without_models_is_told_of_those_that_ship(run, models):
    assert "--tenant system" not in run("list").out
    models.own = []
    shown = run("list")
    assert "`tiation models list --tenant system` shows those that ship" in shown.out
    assert json.loads(run("list", "--output", "json").out) == []


def test_what_ships_stays_as_it_is_by_every_command_that_would_change_it(run):
    for changing in (
        ("load", f"{DIGITS}:1"),
        ("unload", f"{DIGITS}:1"),
        ("alias", DIGITS, "production", "1"),
        ("policy", DIGITS, "--all"),
        ("delete", DIGITS),
    ):
        refused = run(*changing)
        assert (refused.code, changing[0]) == (1, changing[0])
        assert f"{DIGITS} ships with the platform and stays as it is" in refused.err


@pytest.mark.parametrize(
    ("row", "said"),
    [("5.1,x", "--row `5.1,x`: `x` is no number"), ("1,,2", "--row `1,,2`: `` is no number")],
)
def test_a_cell_that_is_no_number_is_named(run, row, said):
    refused = run("classify", "iris", "--row", row)
    assert refused.code == 2
    assert said in refused.err


def test_the_other_labels_are_shown_without_the_chosen_one(run):
    heading, line = run("classify", "iris", "--row", "1", "--top-k", "3").out.splitlines()
    assert heading.split() == ["item", "label", "score", "others"]
    assert line.split(maxsplit=3) == ["1", "0", "0.982", "1 0.018, 2 0.000"]


def test_columns_of_which_nothing_was_asked_are_not_shown(run):
    assert run("classify", "iris", "--row", "1").out.splitlines()[0].split() == ["item", "label", "score"]
    assert run("regress", "iris", "--row", "1").out.splitlines()[0].split() == ["row", "comes", "to"]


def test_a_classification_says_what_each_value_did(run, models):
    shown = run("classify", "iris", "--row", "1", "--explain").out
    assert models.asked[-1].explain
    assert "because of" in shown.splitlines()[0]
    assert "sepal +0.5, petal -0.25" in shown


def test_an_alias_that_there_is_not_is_one_of_none(run):
    refused = run("alias", "iris", "canary", "--remove")
    assert refused.code == 2
    assert f"{IRIS} has no alias `canary`; it has none" in refused.err


@pytest.mark.parametrize("given", ["iris", "iris:"])
def test_a_version_without_its_number_is_told_how_to_write_it(run, given):
    refused = run("load", given)
    assert refused.code == 2
    assert f"`{given}` names no version; write MODEL:VERSION, for example iris:1" in refused.err


def test_a_version_is_shown_with_its_origin_tensors_and_files(run):
    shown = run("get", "iris:1").out
    for line in (
        "state: ready", "kind: onnx", "pushed: 2026-01-02 03:04", "by: ana", "source: https://example.com/iris",
        "signed: -", "takes: x FP32 [-1, 4]", "gives: label BYTES [-1]",
    ):  # fmt: skip
        assert line in shown.splitlines()
    assert "iris.onnx  1234   abababababab" in shown
    assert "why" not in shown


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "iris"
    made.mkdir()
    (made / "model.yaml").write_text("name: iris\nkind: onnx\n")
    return str(made)


def test_a_push_whose_version_cannot_be_loaded_says_why_and_fails(run, models, folder):
    assert run("push", folder).code == 0
    models.pushed = version(model_pb2.ModelVersion.FAILED, "warm_up[0]: labels: is empty")
    refused = run("push", folder)
    assert refused.code == 1
    assert f"{IRIS}/versions/1 cannot be loaded: warm_up[0]: labels: is empty" in refused.err
    as_json = run("push", folder, "--output", "json")
    assert as_json.code == 1
    assert json.loads(as_json.out)["stateMessage"] == "warm_up[0]: labels: is empty"
    assert json.loads(as_json.err)["error"]["reason"] == "MODEL_VERSION_FAILED"


def test_a_push_that_the_policy_keeps_out_of_memory_says_so_and_how_it_is_loaded(run, models, folder):
    hint = f"the model's policy keeps it out of memory; `tiation models load {IRIS}/versions/1` loads it"
    assert hint not in run("push", folder).out
    models.pushed = version(model_pb2.ModelVersion.UNLOADED)
    pushed = run("push", folder)
    assert (pushed.code, pushed.out.splitlines()) == (0, [f"{IRIS}/versions/1 unloaded", hint])
    assert run("push", folder, "--no-load").out == f"{IRIS}/versions/1 unloaded\n"
    assert json.loads(run("push", folder, "--output", "json").out)["state"] == "UNLOADED"


@pytest.mark.parametrize(("size", "shown"), [(12_345, "12.3 kB"), (90_300_000, "90.3 MB")])
def test_the_size_of_a_variant_is_shown_in_a_unit_that_fits(run, models, size, shown):
    models.variant = model_pb2.ModelVariant(precision=model_pb2.ModelVariant.INT8, source_bytes=size, size_bytes=4_000)
    assert f"4.0 kB in place of {shown};" in run("get", "iris:1").out


def test_a_text_that_was_cut_off_says_so_beside_itself(run):
    cut = run("generate", "writer", "Hello", "--max-tokens", "5")
    assert (cut.code, cut.out) == (0, "Once upon a time\n")
    assert "(cut off after 5 tokens; --max-tokens 0" in cut.err
    assert run("generate", "writer", "Hello").err == ""


def test_a_push_says_in_a_line_which_folders_it_left_out(run, tmp_path):
    folder = tmp_path / "iris"
    folder.mkdir()
    (folder / "model.yaml").write_text("name: iris\nkind: onnx\n")
    (folder / "iris.onnx").write_bytes(b"some")
    assert run("push", str(folder)).err == ""
    for name in ("notes", "old"):
        (folder / name).mkdir()
    said = run("push", str(folder))
    assert (said.code, said.err) == (0, "left out: notes, old; a model has files only, no folders\n")
