"""What our contracts must say about the REST side of the methods. Each rule returns the offenders."""

from __future__ import annotations

import re

from google.protobuf.descriptor import FieldDescriptor

from tests.contract.rules.reading import (
    INTERNAL,
    Offenders,
    access_of,
    bindings,
    fields_below,
    find_field,
    ours,
    ours_in_rest,
    public,
    snake,
)
from tools.contracts import Contracts

# Public methods that REST cannot carry, and why. A name in it that has become wrong is an offender too.
WITHOUT_REST = {
    "tiation.engine.v1.ModelService.PushModel": "an upload in pieces",
}

# Services that speak another protocol's REST, and where its paths begin. What is not listed lies below tenants.
DIALECTS = {
    "tiation.engine.v1.InferenceRestService": r"/v2(/|$)",
    "tiation.engine.v1.OpenAIService": r"/v1/(embeddings|chat/completions|completions|models)(/|$)",
}


def public_methods_have_a_rest_path(contracts: Contracts) -> Offenders:
    return [
        f"{method.full_name} has {'a' if bindings(contracts, method) else 'no'} REST path"
        for method in public(contracts)
        if bool(bindings(contracts, method)) == (method.full_name in WITHOUT_REST)
    ]


def internal_methods_have_no_rest_path(contracts: Contracts) -> Offenders:
    return [
        f"{method.full_name} is internal and has a REST path"
        for method in ours(contracts)
        if bindings(contracts, method)
        and (access := access_of(contracts, method)) is not None
        and access.visibility == INTERNAL
    ]


def rest_paths_lie_below_tenants(contracts: Contracts) -> Offenders:
    return [
        f"{method.full_name} lies at {path}"
        for method in ours_in_rest(contracts)
        for _, path, _ in bindings(contracts, method)
        if not re.match(r"^/v1/(\{[a-z_.]+=tenants/\*|tenants(/|:|$))", path)
    ]


def other_protocols_have_paths_of_their_own(contracts: Contracts) -> Offenders:
    return [
        f"{method.full_name} speaks another protocol's words at {path}"
        for method in ours(contracts)
        if contracts.option(method.containing_service, "tiation.mesh.v1.dialect")
        for _, path, _ in bindings(contracts, method)
        if not re.match(DIALECTS.get(str(method.containing_service.full_name), "$^"), path)
    ]


def rest_paths_and_bodies_name_fields_of_the_request(contracts: Contracts) -> Offenders:
    return [
        f"{method.full_name} binds {name}, which the request lacks"
        for method in ours(contracts)
        for _, path, body in bindings(contracts, method)
        for name in [*re.findall(r"\{([^=}]+)", path), *([body] if body not in {"", "*"} else [])]
        if find_field(method.input_type, name) is None
    ]


def rest_verbs_fit_the_methods(contracts: Contracts) -> Offenders:
    """AIP-131 to 136: Get and List are GET, Create POST, Update PATCH, Delete DELETE, the rest `:verb`."""
    expected = {"Get": "get", "List": "get", "Create": "post", "Update": "patch", "Delete": "delete"}
    offenders = []
    in_rest = {method.full_name for method in ours_in_rest(contracts)}
    for method in (method for method in public(contracts) if method.full_name in in_rest):
        kind = re.match(r"(Get|List|Create|Update|Delete)[A-Z]", method.name)
        for verb, path, body in bindings(contracts, method):
            if kind is None:
                fits = re.search(r":[a-z][A-Za-z]*$", path) and ((verb == "post" and body) or verb == "get")
            else:
                resource = snake(method.name.removeprefix(kind[1]))
                wanted = resource if kind[1] in {"Create", "Update"} else ""
                fits = verb == expected[kind[1]] and body == wanted and not re.search(r":[a-z]", path)
            if not fits:
                offenders.append(f"{method.full_name} is {verb} {path} with body {body!r}")
    return offenders


def sparse_answers_lose_no_number(contracts: Contracts) -> Offenders:
    """Where REST leaves out what is not set, a zero would be lost in a field that does not say whether it is set."""
    return [
        f"{method.full_name} is sparse and loses a zero of {field.full_name}"
        for method in ours(contracts)
        if contracts.option(method, "tiation.mesh.v1.sparse")
        for field in fields_below(method.output_type, set())
        if field.cpp_type not in (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_ENUM)
        if not field.is_repeated and not field.has_presence
    ]
