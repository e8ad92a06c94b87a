"""Every contract obeys every rule, and every rule bites."""

import shutil
from pathlib import Path

import pytest

from mesh.foreign import FOREIGN
from tests.contract.conftest import ROOT
from tests.contract.rules import RULES
from tools.contracts import Contracts
from tools.protoc import Sources, compile_descriptors

# What each rule says about breaches.proto, among other things.
_SERVICE = "tiation.security.v1.BreachService"
_THING = "tiation.security.v1.Thing"
BREACHES = {
    "says_who_may_call": f"{_SERVICE}.Silent has no access option or no visibility",
    "says_how_it_is_recorded": f"{_SERVICE}.Silent has no record option or no category",
    "public_methods_need_a_permission_or_are_for_anyone": (
        f"{_SERVICE}.Unguarded needs exactly one of permission and anyone"
    ),
    "internal_methods_name_their_callers": f"{_SERVICE}.Hidden is internal and names no callers",
    "callers_are_services_that_exist": f"{_SERVICE}.GetThing names the unknown caller stranger",
    "permissions_read_service_resource_verb": f"{_SERVICE}.GetThing has the permission 'things.get'",
    "access_names_a_field_of_the_request_that_names_a_resource": f"{_SERVICE}.ListThings: name names no resource",
    "requests_with_a_name_are_checked_on_that_name": f"{_SERVICE}.GetThing does not check access on the request's name",
    "standard_methods_are_recorded_as_what_they_do": f"{_SERVICE}.ListThings is recorded as 2",
    "secrets_never_come_back": f"{_THING}.password is secret and neither INPUT_ONLY nor OUTPUT_ONLY",
    "what_sounds_secret_is_marked": f"{_THING}.api_key sounds like a secret and is not marked",
    "public_methods_have_a_rest_path": f"{_SERVICE}.Unguarded has no REST path",
    "internal_methods_have_no_rest_path": f"{_SERVICE}.Hidden is internal and has a REST path",
    "rest_paths_lie_below_tenants": f"{_SERVICE}.GetThing lies at /v2/{{title=tenants/*}}:get",
    "other_protocols_have_paths_of_their_own": (
        "tiation.security.v1.BorrowedService.Answer speaks another protocol's words at /v1/tenants:answer"
    ),
    "access_by_a_bare_name_ends_in_a_field_of_the_request": (
        "tiation.security.v1.BorrowedService.Answer finds no bare name at ghost"
    ),
    "rest_paths_and_bodies_name_fields_of_the_request": f"{_SERVICE}.GetThing binds title, which the request lacks",
    "rest_verbs_fit_the_methods": f"{_SERVICE}.GetThing is post /v2/{{title=tenants/*}}:get with body ''",
    "sparse_answers_lose_no_number": (
        f"{_SERVICE}.WatchThings is sparse and loses a zero of tiation.engine.v1.Model.latest_version"
    ),
    "everything_has_a_comment": "tiation.security.v1.ListOthersRequest.page_token has no comment",
    "resources_carry_the_standard_fields": f"{_THING} has no etag",
    "what_the_server_owns_is_output_only": f"{_THING}.uid can be set by callers",
    "resources_live_in_a_tenant": f"{_THING} lies at things/{{thing}}",
    "resource_types_belong_to_their_service": f"{_THING} is of the type engine.tiation.dev/Thing",
    "references_name_resources_that_exist": f"{_THING}.ghost refers to x/Ghost",
    "lists_page": f"{_SERVICE}.ListThings does not page",
    "negative_page_sizes_are_refused": f"{_SERVICE}.ListOthers accepts a negative page_size",
    "creates_take_an_id_and_a_request_id": f"{_SERVICE}.CreateThing takes no thing_id",
    "updates_take_a_mask": f"{_SERVICE}.UpdateThing takes no update_mask",
    "updates_accept_a_part_of_the_resource": f"{_SERVICE}.UpdateThing insists on thing.kind",
    "deletes_take_a_name_and_an_etag": f"{_SERVICE}.DeleteThing takes no etag",
    "request_and_resource_fields_say_their_behavior": f"{_THING}.api_key has no field_behavior",
    "public_streams_resume_and_say_what_broke": f"{_SERVICE}.WatchThings cannot be resumed",
    "limits_of_time_are_for_single_answers": f"{_SERVICE}.WatchThings limits a stream's time",
    "times_are_called_so": f"{_THING}.created is a Timestamp",
    "services_import_no_other_service": "tiation/security/v1/breaches.proto imports tiation/engine/v1/model.proto",
}


@pytest.mark.parametrize("rule", RULES)
def test_every_contract_obeys(contracts: Contracts, rule: str) -> None:
    assert RULES[rule](contracts) == []


@pytest.fixture(scope="session")
def breaches(tmp_path_factory: pytest.TempPathFactory) -> Contracts:
    """breaches.proto beside the contracts that it imports."""
    root = tmp_path_factory.mktemp("breaches")
    for name in ("mesh", "engine"):
        shutil.copytree(ROOT / "proto" / "tiation" / name, root / "proto" / "tiation" / name)
    folder = root / "proto" / "tiation" / "security" / "v1"
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("breaches.proto"), folder)
    sources = Sources(root)
    return Contracts(compile_descriptors(sources, root / "all.binpb", source_info=True), sources.own)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_finds_its_breach(breaches: Contracts, rule: str) -> None:
    assert BREACHES[rule] in RULES[rule](breaches)


def test_services_that_cannot_carry_our_options_stand_in_the_table_of_mesh(contracts: Contracts) -> None:
    foreign = {
        service.full_name: {method.name for method in service.methods}
        for service in contracts.services()
        if not service.full_name.startswith("tiation.")
    }
    assert foreign == {name: set(methods) for name, methods in FOREIGN.items() if not name.startswith("grpc.")}
