"""The OpenAPI document says what the contracts say. The sample contract holds one of everything."""

import shutil
from pathlib import Path

import pytest
from google.protobuf import json_format, message_factory
from openapi_schema_validator import OAS30ReadValidator
from openapi_spec_validator import validate

from tests.contract.conftest import ROOT
from tools.contracts import Contracts
from tools.openapi import ContractError, document
from tools.openapi.paths import Parameter, parse
from tools.protoc import Sources, compile_descriptors

SAMPLE = "/v1/tenants/{tenant}/samples/{a_sample}"


@pytest.fixture(scope="module")
def sample_contracts(tmp_path_factory: pytest.TempPathFactory) -> Contracts:
    root = tmp_path_factory.mktemp("sample")
    shutil.copytree(ROOT / "proto" / "tiation" / "mesh", root / "proto" / "tiation" / "mesh")
    shutil.copy(Path(__file__).with_name("sample.proto"), root / "proto")
    sources = Sources(root)
    return Contracts(compile_descriptors(sources, root / "all.binpb", source_info=True), sources.own)


@pytest.fixture(scope="module")
def sample(sample_contracts: Contracts) -> dict:
    return document(sample_contracts)


@pytest.fixture(scope="module")
def fields(sample: dict) -> dict:
    return sample["components"]["schemas"]["sample.v1.Sample"]["properties"]


def test_our_document_is_valid_openapi(contracts: Contracts) -> None:
    validate(document(contracts))


def test_the_sample_document_is_valid_openapi(sample: dict) -> None:
    validate(sample)


def test_public_methods_with_a_path_are_in_it_and_internal_ones_are_not(sample: dict) -> None:
    found = {op["operationId"] for item in sample["paths"].values() for op in item.values()}
    verbs = {"GetSample", "GetSample_2", "UpdateSample", "CreateSample", "ShakeSample", "WatchSamples", "Raw"}
    assert found == {f"SampleService_{verb}" for verb in verbs}


def test_every_public_rest_binding_of_ours_is_in_it(contracts: Contracts) -> None:
    found = {op["operationId"] for item in document(contracts)["paths"].values() for op in item.values()}
    expected = {
        f"{method.containing_service.name}_{method.name}" + (f"_{number}" if number else "")
        for method in contracts.methods()
        if (http := contracts.option(method, "google.api.http")) is not None
        for number in [0, *range(2, 2 + len(http.additional_bindings))]
    }
    assert found == expected
    assert "PolicyService_StreamPolicy" not in found


def test_resource_patterns_name_the_path_parameters(sample: dict) -> None:
    parameters = sample["paths"][SAMPLE]["get"]["parameters"]
    assert [p["name"] for p in parameters if p["in"] == "path"] == ["tenant", "a_sample"]
    assert "/v1/tenants/{tenant}/crates/{crate}/samples/{a_sample}" in sample["paths"]


@pytest.mark.parametrize(
    ("http", "template", "parameters"),
    [
        ("/v1/tenants", "/v1/tenants", ()),
        ("/v1/{name=tenants/*}", "/v1/tenants/{tenant}", (Parameter("tenant", "tenants"),)),
        ("/v1/{name=tenants/*}:stop", "/v1/tenants/{tenant}:stop", (Parameter("tenant", "tenants"),)),
        ("/v1/models/{version}", "/v1/models/{version}", (Parameter("version", "models"),)),
        ("/v1/{path=**}", "/v1/{path}", (Parameter("path", "v1", rest=True),)),
    ],
)
def test_path_templates_are_taken_apart(http: str, template: str, parameters: tuple) -> None:
    path = parse(http, {})
    assert (path.template, path.parameters) == (template, parameters)


@pytest.mark.parametrize("http", ["v1/x", "/v1/*", "/v1/{a=x/*}/{b=x/*}", "/v1/{a=x/$}"])
def test_a_path_that_openapi_cannot_say_is_refused(http: str) -> None:
    with pytest.raises(ContractError):
        parse(http, {})


def test_what_the_path_does_not_hold_is_a_query_parameter(sample: dict) -> None:
    query = {p["name"]: p for p in sample["paths"][SAMPLE]["get"]["parameters"] if p["in"] == "query"}
    assert query.keys() == {"depth", "filter.words", "filter.sinceTime"}
    assert query["depth"]["required"] is True
    assert query["filter.words"]["schema"] == {"type": "array", "items": {"type": "string"}}
    assert query["filter.sinceTime"]["schema"] == {"type": "string", "format": "date-time"}


def test_a_body_of_everything_leaves_out_what_the_path_holds(sample: dict) -> None:
    operation = sample["paths"][SAMPLE + ":shake"]["post"]
    body = operation["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert body["required"] is True
    assert schema["properties"].keys() == {"force"}
    assert schema["required"] == ["force"]
    assert not [p for p in operation["parameters"] if p["in"] == "query"]


def test_a_create_body_is_the_resource(sample: dict) -> None:
    body = sample["paths"]["/v1/tenants/{tenant}/samples"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/sample.v1.Sample"}


def test_an_update_body_requires_nothing(sample: dict) -> None:
    operation = sample["paths"][SAMPLE]["patch"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert "kind" in schema["properties"]
    assert "required" not in schema
    assert [p["name"] for p in operation["parameters"] if p["in"] == "query"] == ["updateMask"]


def test_a_stream_is_an_event_stream(sample: dict) -> None:
    answer = sample["paths"]["/v1/tenants/{tenant}/samples:watch"]["get"]["responses"]["200"]
    assert list(answer["content"]) == ["text/event-stream"]


def test_raw_bodies_are_binary_both_ways(sample: dict) -> None:
    operation = sample["paths"]["/v1/tenants:raw"]["post"]
    binary = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
    assert operation["requestBody"]["content"] == binary
    assert operation["responses"]["200"]["content"] == binary


def test_another_protocols_paths_say_its_own_bodies_and_errors(contracts: Contracts) -> None:
    paths = document(contracts)["paths"]
    chat = paths["/v1/chat/completions"]["post"]
    assert list(chat["requestBody"]["content"]) == ["application/json"]
    assert list(chat["responses"]["200"]["content"]) == ["application/json", "text/event-stream"]
    infer = paths["/v2/models/{model_name}/infer"]["post"]
    assert list(infer["requestBody"]["content"]) == ["application/json", "application/octet-stream"]
    schema = infer["responses"]["default"]["content"]["application/json"]["schema"]
    assert schema["properties"] == {"error": {"type": "string"}}


def test_errors_are_google_rpc_status(sample: dict) -> None:
    for item in sample["paths"].values():
        for operation in item.values():
            content = operation["responses"]["default"]["content"]
            assert content == {"application/json": {"schema": {"$ref": "#/components/schemas/google.rpc.Status"}}}


def test_permissions_and_tokens_are_told(sample: dict) -> None:
    assert sample["security"] == [{"bearer": []}]
    assert sample["paths"][SAMPLE]["get"]["x-tiation-permission"] == "sample.samples.get"
    assert "security" not in sample["paths"][SAMPLE]["get"]
    assert sample["paths"]["/v1/tenants:raw"]["post"]["security"] == []


def test_comments_become_summaries_and_descriptions(sample: dict) -> None:
    operation = sample["paths"][SAMPLE]["get"]
    assert (operation["summary"], operation["description"]) == (
        "Returns one sample",
        "Returns one sample. Nothing else.",
    )
    assert {"name": "SampleService", "description": "Keeps samples. Says no more."} in sample["tags"]
    warmth = sample["components"]["schemas"]["sample.v1.Warmth"]
    assert warmth["enum"] == ["WARMTH_UNSPECIFIED", "HOT"]
    assert warmth["description"] == "How warm.\n\n- WARMTH_UNSPECIFIED: Not said\n- HOT: Hot"


def test_field_behavior_is_told(fields: dict, sample: dict) -> None:
    assert fields["uid"]["readOnly"] is True
    assert fields["apiKey"] == {"type": "string", "format": "password", "writeOnly": True, "description": "Key."}
    assert fields["inner"]["allOf"] == [{"$ref": "#/components/schemas/sample.v1.Sample"}]
    assert fields["kind"]["description"] == "Kind. Cannot be changed later."
    assert sample["components"]["schemas"]["sample.v1.Sample"]["required"] == ["kind"]


def test_validation_rules_are_told(fields: dict) -> None:
    kind = {key: fields["kind"][key] for key in ("minLength", "maxLength", "pattern")}
    assert kind == {"minLength": 1, "maxLength": 9, "pattern": "^[a-z]+$"}
    assert fields["requestId"]["format"] == "uuid"
    assert fields["slug"]["pattern"] == "^$|^[a-z]+$"
    assert fields["small"] == {
        "type": "integer", "format": "int32", "minimum": 0, "maximum": 10, "exclusiveMaximum": True,
    }  # fmt: skip
    assert fields["big"]["description"] == "Must be at least 1 and at most 5."
    assert fields["raw"]["description"] == "At most 3 bytes."
    assert fields["ttl"]["description"] == "Must be at least 1s and at most 60s."
    assert fields["words"] == {
        "type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 1, "maxItems": 3,
    }  # fmt: skip
    assert fields["counts"]["maxProperties"] == 2


FULL = {
    "name": "tenants/a/samples/b", "uid": "u", "kind": "abc", "requestId": "", "slug": "", "small": 9, "big": "5",
    "flags": 4294967295, "huge": "18446744073709551615", "ratio": 0.5, "yes": True, "raw": "AAA=", "warmth": "HOT",
    "words": ["a"], "counts": {"a": "-1"}, "createTime": "2026-01-02T03:04:05.006Z", "ttl": "1.500s",
    "config": {"a": [1, None, {"b": "c"}]}, "anyJson": [1, "two", None], "maybe": "m", "inner": {"kind": "x"},
    "left": "l", "any": {"@type": "type.googleapis.com/sample.v1.Filter", "words": ["w"]},
}  # fmt: skip


def _errors(sample: dict, value: object) -> list[str]:
    schema = {"$ref": "#/components/schemas/sample.v1.Sample", "components": sample["components"]}
    return [error.json_path for error in OAS30ReadValidator(schema).iter_errors(value)]


def test_json_that_protobuf_prints_fits_the_schema(sample: dict, sample_contracts: Contracts) -> None:
    pool = sample_contracts.pool
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("sample.v1.Sample"))()
    json_format.ParseDict(FULL, message, descriptor_pool=pool)
    printed = json_format.MessageToDict(message, descriptor_pool=pool, always_print_fields_with_no_presence=False)
    assert printed.keys() == FULL.keys() - {"requestId", "slug"}
    assert _errors(sample, printed) == []
    assert _errors(sample, FULL) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "ABC"}, {"kind": ""}, {"small": 10}, {"huge": -1}, {"huge": 1}, {"warmth": "COLD"}, {"right": 3},
        {"words": []}, {"words": ["longer"]}, {"ttl": "soon"}, {"any": {}}, {"yes": "true"}, {"counts": {"a": 1}},
    ],
)  # fmt: skip
def test_json_that_breaks_a_rule_does_not_fit_the_schema(sample: dict, wrong: dict) -> None:
    assert _errors(sample, FULL | wrong) != []


def test_two_methods_on_one_path_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "proto"
    folder.mkdir()
    shutil.copytree(ROOT / "proto" / "tiation" / "mesh", folder / "tiation" / "mesh")
    text = Path(__file__).with_name("sample.proto").read_text()
    (folder / "sample.proto").write_text(text.replace("/v1/inside", "/v1/{name=tenants/*}").replace(
        "samples:watch", "samples"
    ).replace('"/v1/{parent=tenants/*}/samples"', '"/v1/{parent=tenants/*}/samples:create"').replace(
        '{post: "/v1/tenants:raw" body: "*"}', '{get: "/v1/{data=tenants/*}/samples"}'
    ))  # fmt: skip
    sources = Sources(tmp_path)
    contracts = Contracts(compile_descriptors(sources, tmp_path / "all.binpb", source_info=True), sources.own)
    with pytest.raises(ContractError, match="is taken by"):
        document(contracts)
