"""What our contracts must say about who may call a method, and how it is recorded. Each rule returns the offenders."""

from __future__ import annotations

import re

from google.protobuf.descriptor import FieldDescriptor

from tests.contract.rules.reading import (
    INPUT_ONLY,
    INTERNAL,
    NONE,
    OUTPUT_ONLY,
    PUBLIC,
    READ,
    WRITE,
    Offenders,
    access_of,
    behavior,
    bindings,
    category_of,
    find_field,
    ours,
    public,
    resources,
    service_of,
)
from tools.contracts import Contracts

CALLERS = {"security", "engine", "orchestrator", "integration", "analytics", "gateway", "supervisor"}

_PERMISSION = re.compile(r"^[a-z]+(\.[a-z][A-Za-z]*){2}$")
_SOUNDS_SECRET = re.compile(r"(^|_)(password|passphrase|secret|token|credentials?|private_key|api_key|key_string)(_|$)")
_SOUNDS_HARMLESS = re.compile(r"^(next_)?page_token$|_(id|names?)$")


def says_who_may_call(contracts: Contracts) -> Offenders:
    return [
        f"{method.full_name} has no access option or no visibility"
        for method in ours(contracts)
        if (access := access_of(contracts, method)) is None or access.visibility not in {PUBLIC, INTERNAL}
    ]


def says_how_it_is_recorded(contracts: Contracts) -> Offenders:
    return [
        f"{method.full_name} has no record option or no category"
        for method in ours(contracts)
        if not category_of(contracts, method)
    ]


def public_methods_need_a_permission_or_are_for_anyone(contracts: Contracts) -> Offenders:
    return [
        f"{method.full_name} needs exactly one of permission and anyone"
        for method in public(contracts)
        if bool(access_of(contracts, method).permission) == access_of(contracts, method).anyone
    ]


def internal_methods_name_their_callers(contracts: Contracts) -> Offenders:
    return [
        f"{method.full_name} is internal and names no callers"
        for method in ours(contracts)
        if (access := access_of(contracts, method)) is not None and access.visibility == INTERNAL and not access.callers
    ]


def callers_are_services_that_exist(contracts: Contracts) -> Offenders:
    return [
        f"{method.full_name} names the unknown caller {caller}"
        for method in ours(contracts)
        if (access := access_of(contracts, method)) is not None
        for caller in access.callers
        if caller not in CALLERS
    ]


def permissions_read_service_resource_verb(contracts: Contracts) -> Offenders:
    return [
        f"{method.full_name} has the permission {access.permission!r}"
        for method in ours(contracts)
        if (access := access_of(contracts, method)) is not None and access.permission
        if not _PERMISSION.match(access.permission) or access.permission.split(".")[0] != service_of(method.full_name)
    ]


def access_names_a_field_of_the_request_that_names_a_resource(contracts: Contracts) -> Offenders:
    offenders = []
    for method in ours(contracts):
        access = access_of(contracts, method)
        if access is None or not access.resource:
            continue
        field = find_field(method.input_type, access.resource)
        if field is None or field.type != FieldDescriptor.TYPE_STRING:
            offenders.append(f"{method.full_name} finds no string at {access.resource}")
        elif not (
            contracts.option(field, "google.api.resource_reference")
            or contracts.option(field.containing_type, "google.api.resource")
        ):
            offenders.append(f"{method.full_name}: {access.resource} names no resource")
    return offenders


def access_by_a_bare_name_ends_in_a_field_of_the_request(contracts: Contracts) -> Offenders:
    """A template names a string of the request, and stands instead of a resource."""
    offenders = []
    for method in ours(contracts):
        access = access_of(contracts, method)
        if access is None or not access.template:
            continue
        name = access.template.rsplit("{", 1)[1].rstrip("}")
        field = find_field(method.input_type, name)
        if access.resource or field is None or field.type != FieldDescriptor.TYPE_STRING:
            offenders.append(f"{method.full_name} finds no bare name at {name}")
    return offenders


def requests_with_a_name_are_checked_on_that_name(contracts: Contracts) -> Offenders:
    """A request that says which resource it is about must be authorised on it, not on the tenant at large."""
    return [
        f"{method.full_name} does not check access on the request's {name}"
        for method in public(contracts)
        for name in ("name", "parent")
        if name in method.input_type.fields_by_name and access_of(contracts, method).resource != name
    ]


def standard_methods_are_recorded_as_what_they_do(contracts: Contracts) -> Offenders:
    """A GET that changed something would be replayed by caches and answered while the policy is stale."""
    offenders = []
    for method in public(contracts):
        reads = any(verb == "get" for verb, _, _ in bindings(contracts, method))
        writes = bool(re.match(r"(Create|Update|Delete)[A-Z]", method.name))
        category = category_of(contracts, method)
        if (reads and category not in {READ, NONE}) or (writes and category != WRITE):
            offenders.append(f"{method.full_name} is recorded as {category}")
    return offenders


def secrets_never_come_back(contracts: Contracts) -> Offenders:
    """A secret in a resource is taken and not shown again, or made by the server and shown once."""
    return [
        f"{field.full_name} is secret and neither INPUT_ONLY nor OUTPUT_ONLY"
        for message in resources(contracts)
        for field in message.fields
        if contracts.option(field, "tiation.mesh.v1.secret")
        and not {INPUT_ONLY, OUTPUT_ONLY} & behavior(contracts, field)
    ]


def what_sounds_secret_is_marked(contracts: Contracts) -> Offenders:
    return [
        f"{field.full_name} sounds like a secret and is not marked"
        for message in contracts.messages()
        for field in message.fields
        if _SOUNDS_SECRET.search(field.name)
        and not _SOUNDS_HARMLESS.search(field.name)
        and field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}
        and not contracts.option(field, "google.api.resource_reference")
        and not contracts.option(field, "tiation.mesh.v1.secret")
    ]
