"""What our contracts must say about resources, requests and answers. Each rule returns the offenders."""

from __future__ import annotations

import re

from google.protobuf import message_factory

from tests.contract.rules.reading import (
    IDENTIFIER,
    OUTPUT_ONLY,
    Offenders,
    behavior,
    ours,
    public,
    resources,
    service_of,
    snake,
    standard,
    violations,
)
from tools.contracts import Contracts

# Resources that are facts and never change: the fields they lack.
WITHOUT_FIELDS = {
    "tiation.security.v1.Record": {"uid", "etag", "create_time", "update_time", "labels"},
    "tiation.analytics.v1.Metric": {"uid", "etag", "create_time", "update_time", "labels"},
}

# Streams that are the pieces of one file, whole before its first piece goes: it is asked for again. Or events in
# another protocol's words, which has its own for what broke.
FILES = {"google.api.HttpBody"}

_COMPUTED = frozenset({"tiation.engine.v1.PredictionService.Generate"})
"""Streams that are computed for the call alone: nothing of them is kept that could be gone on with."""


def everything_has_a_comment(contracts: Contracts) -> Offenders:
    things = [*contracts.services(), *contracts.methods(), *contracts.messages(), *contracts.enums()]
    things += [field for message in contracts.messages() for field in message.fields]
    things += [value for enum in contracts.enums() for value in enum.values]
    return [
        f"{getattr(thing, 'full_name', thing.name)} has no comment" for thing in things if not contracts.comment(thing)
    ]


def resources_carry_the_standard_fields(contracts: Contracts) -> Offenders:
    return [
        f"{message.full_name} has no {name}"
        for message in resources(contracts)
        for name in ("name", "uid", "etag", "create_time", "update_time", "labels")
        if name not in message.fields_by_name and name not in WITHOUT_FIELDS.get(message.full_name, ())
    ]


def what_the_server_owns_is_output_only(contracts: Contracts) -> Offenders:
    owned = {"name": IDENTIFIER, "uid": OUTPUT_ONLY, "create_time": OUTPUT_ONLY, "update_time": OUTPUT_ONLY}
    owned |= {"state": OUTPUT_ONLY}
    return [
        f"{field.full_name} can be set by callers"
        for message in resources(contracts)
        for field in message.fields
        if field.name in owned and owned[field.name] not in behavior(contracts, field)
    ]


def resources_live_in_a_tenant(contracts: Contracts) -> Offenders:
    return [
        f"{message.full_name} lies at {pattern}"
        for message in resources(contracts)
        for pattern in contracts.option(message, "google.api.resource").pattern or [""]
        if not re.match(r"^tenants/\{tenant\}(/[a-zA-Z]+/\{[a-z_]+\})*$", pattern)
    ]


def resource_types_belong_to_their_service(contracts: Contracts) -> Offenders:
    return [
        f"{message.full_name} is of the type {kind}"
        for message in resources(contracts)
        if (kind := contracts.option(message, "google.api.resource").type)
        != f"{service_of(message.full_name)}.tiation.dev/{message.name}"
    ]


def references_name_resources_that_exist(contracts: Contracts) -> Offenders:
    known = {contracts.option(message, "google.api.resource").type for message in resources(contracts)}
    return [
        f"{field.full_name} refers to {reference.type or reference.child_type}"
        for message in contracts.messages()
        for field in message.fields
        if (reference := contracts.option(field, "google.api.resource_reference")) is not None
        and (reference.type or reference.child_type) not in known
    ]


def lists_page(contracts: Contracts) -> Offenders:
    offenders = []
    for method in standard(contracts, "List"):
        request, answer = method.input_type.fields_by_name, method.output_type.fields_by_name
        repeated = [field for field in answer.values() if field.is_repeated]
        if not {"page_size", "page_token"} <= set(request) or "next_page_token" not in answer:
            offenders.append(f"{method.full_name} does not page")
        elif len(repeated) != 1 or repeated[0].number != 1:
            offenders.append(f"{method.full_name} answers with more than one list, or not in field 1")
    return offenders


def negative_page_sizes_are_refused(contracts: Contracts) -> Offenders:
    offenders = []
    for method in standard(contracts, "List"):
        field = method.input_type.fields_by_name.get("page_size")
        request = message_factory.GetMessageClass(method.input_type)()
        if field is not None:
            request.page_size = -1
            if not any(path == "page_size" for path in violations(request)):
                offenders.append(f"{method.full_name} accepts a negative page_size")
    return offenders


def creates_take_an_id_and_a_request_id(contracts: Contracts) -> Offenders:
    return [
        f"{method.full_name} takes no {name}"
        for method in standard(contracts, "Create")
        for resource in [snake(method.name.removeprefix("Create"))]
        for name in (resource, f"{resource}_id", "request_id")
        if name not in method.input_type.fields_by_name
    ]


def updates_take_a_mask(contracts: Contracts) -> Offenders:
    offenders = []
    for method in standard(contracts, "Update"):
        fields = method.input_type.fields_by_name
        mask = fields.get("update_mask")
        if mask is None or mask.message_type is None or mask.message_type.full_name != "google.protobuf.FieldMask":
            offenders.append(f"{method.full_name} takes no update_mask")
        if snake(method.name.removeprefix("Update")) not in fields:
            offenders.append(f"{method.full_name} takes no resource")
    return offenders


def updates_accept_a_part_of_the_resource(contracts: Contracts) -> Offenders:
    """What an update leaves out is not changed, so no rule may insist on it."""
    offenders = []
    for method in standard(contracts, "Update"):
        name = snake(method.name.removeprefix("Update"))
        if name not in method.input_type.fields_by_name:
            continue
        request = message_factory.GetMessageClass(method.input_type)()
        getattr(request, name).SetInParent()
        offenders += [
            f"{method.full_name} insists on {path}" for path in violations(request) if path.startswith(f"{name}.")
        ]
    return offenders


def deletes_take_a_name_and_an_etag(contracts: Contracts) -> Offenders:
    return [
        f"{method.full_name} takes no {name}"
        for method in standard(contracts, "Delete")
        for name in ("name", "etag")
        if name not in method.input_type.fields_by_name
    ]


def request_and_resource_fields_say_their_behavior(contracts: Contracts) -> Offenders:
    messages = {message.full_name: message for message in resources(contracts)}
    messages |= {method.input_type.full_name: method.input_type for method in public(contracts)}
    return [
        f"{field.full_name} has no field_behavior"
        for message in messages.values()
        if message.full_name.startswith("tiation.")
        for field in message.fields
        if not behavior(contracts, field) and field.containing_oneof is None
    ]


def public_streams_resume_and_say_what_broke(contracts: Contracts) -> Offenders:
    offenders = []
    for method in public(contracts):
        if not method.server_streaming or method.client_streaming or method.output_type.full_name in FILES:
            continue
        error = method.output_type.fields_by_name.get("error")
        inner = [field.message_type for field in method.output_type.fields if field.message_type is not None]
        if "after_sequence" not in method.input_type.fields_by_name and method.full_name not in _COMPUTED:
            offenders.append(f"{method.full_name} cannot be resumed")
        if not any("sequence" in message.fields_by_name for message in [method.output_type, *inner]):
            offenders.append(f"{method.full_name} counts no sequence")
        if error is None or error.message_type is None or error.message_type.full_name != "google.rpc.Status":
            offenders.append(f"{method.full_name} cannot say what broke it")
    return offenders


def limits_of_time_are_for_single_answers(contracts: Contracts) -> Offenders:
    offenders = []
    for method in ours(contracts):
        timeout = contracts.option(method, "tiation.mesh.v1.timeout")
        if timeout is not None and method.server_streaming:
            offenders.append(f"{method.full_name} limits a stream's time")
        if timeout is not None and timeout.seconds <= 0:
            offenders.append(f"{method.full_name} has no time at all")
    return offenders


def times_are_called_so(contracts: Contracts) -> Offenders:
    return [
        f"{field.full_name} is a Timestamp"
        for message in contracts.messages()
        for field in message.fields
        if field.message_type is not None
        and field.message_type.full_name == "google.protobuf.Timestamp"
        and not field.name.endswith("_time")
    ]


def services_import_no_other_service(contracts: Contracts) -> Offenders:
    return [
        f"{file.name} imports {other.name}"
        for file in contracts.files
        for other in file.dependencies
        if file.package.startswith("tiation.") and other.package.startswith("tiation.")
        if other.package not in {file.package, "tiation.mesh.v1"}
    ]
