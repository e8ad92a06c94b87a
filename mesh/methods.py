"""What each method's descriptor says about it: types, access, record, the fields that hold resource names.

Services that cannot carry our options are declared in `mesh.foreign`. Acting on any of it is up to the stages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import chain

from google.api import field_behavior_pb2, resource_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from tiation.mesh.v1 import options_pb2

from mesh.contracts import CONTRACTS
from mesh.foreign import FOREIGN, ForeignMethod

__all__ = ["DEFAULT_TIMEOUT_S", "Method", "ResourceField", "methods_of", "resource_patterns"]

_NONE = options_pb2.Record.Category.NONE
_WRITE = options_pb2.Record.Category.WRITE

DEFAULT_TIMEOUT_S = 60.0
"""The longest that a method with one answer to one request may take unless its contract says otherwise."""


@dataclass(frozen=True, slots=True)
class ResourceField:
    """A field of a request that names a resource.

    Attributes:
        path: where it is, for example `("agent", "name")`.
        patterns: the forms that its value may have.
        required: false where it may be empty.
    """

    path: tuple[str, ...]
    patterns: tuple[str, ...]
    required: bool

    @property
    def dotted(self) -> str:
        """The path as callers write it: `agent.name`."""
        return ".".join(self.path)

    def value(self, message: Message) -> str:
        """What the field holds in a request."""
        return str(reduce(getattr, self.path, message))

    def is_there(self, message: Message) -> bool:
        """Whether the request has the message that the field is in."""
        for part in self.path[:-1]:
            if not message.HasField(part):
                return False
            message = getattr(message, part)
        return True


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC and everything its contract says.

    Attributes:
        name: `tiation.engine.v1.ModelService/GetModel`.
        request: the request's message class.
        answer: the answer's message class.
        streams_in: true where the client sends a stream.
        streams_out: true where the service answers with a stream.
        permission: what the caller must be allowed; empty where none is needed.
        resource: the field that names the resource, if the request names one.
        template: where the resource follows from a bare name, `tenants/{tenant}/models/{model_name}`.
        whole: true where no name at all stands for the caller's tenant.
        callers: services that may call it or pass a user on.
        internal: true where users never reach it.
        anyone: true where no token is needed.
        platform: true where the permission is needed on the platform itself.
        category: how the call is recorded.
        timeout_s: the longest that an answer may take; None for streams without a limit.
        named: every field of the request that names a resource.
        max_body_bytes: the most that the body of a REST request may have; 0 for what the operator allows everywhere.
        sparse: true where an answer over REST names only the fields that are set.
        ruled: whether its contract can hold rules for the request's fields; those of others hold none of ours.
        recorded: whether calls leave a record.
        is_of_tenants: whether it is about tenants as such, which belong to the platform.
        is_write: whether a call may change something on a user's word alone.
    """

    name: str
    request: type[Message]
    answer: type[Message]
    streams_in: bool
    streams_out: bool
    permission: str
    resource: ResourceField | None
    template: str
    callers: frozenset[str]
    internal: bool
    anyone: bool
    platform: bool
    category: int
    timeout_s: float | None
    named: tuple[ResourceField, ...]
    max_body_bytes: int = 0
    sparse: bool = False
    whole: bool = False
    ruled: bool = True
    recorded: bool = field(init=False)
    is_of_tenants: bool = field(init=False)
    is_write: bool = field(init=False)

    def __post_init__(self) -> None:
        """What every call asks is worked out once."""
        object.__setattr__(self, "recorded", self.category != _NONE)
        object.__setattr__(self, "is_of_tenants", self.permission.startswith("security.tenants."))
        object.__setattr__(self, "is_write", self.category == _WRITE)


def methods_of(services: Iterable[str]) -> dict[str, Method]:
    """Every method of the services by its path on the wire, `/package.Service/Method`.

    Raises:
        ValueError: a method carries no access or record option and stands in no table.
    """
    pool = descriptor_pool.Default()
    patterns = resource_patterns()
    methods: dict[str, Method] = {}
    for service in services:
        for method in pool.FindServiceByName(service).methods:
            methods[f"/{service}/{method.name}"] = _method(service, method, patterns)
    return methods


def resource_patterns() -> dict[str, str]:
    """Every declared resource type with its pattern: `engine.tiation.dev/Model` → `tenants/{tenant}/models/{model}`."""
    found: dict[str, str] = {}
    pool = descriptor_pool.Default()
    for path in chain.from_iterable(CONTRACTS.values()):
        try:
            file = pool.FindFileByName(path)
        except KeyError:
            continue  # a service loads the contracts it serves, not every other one's
        for message in file.message_types_by_name.values():
            declared = message.GetOptions().Extensions[resource_pb2.resource]
            if declared.type:
                found[declared.type] = declared.pattern[0]
    return found


def _method(service: str, method: MethodDescriptor, patterns: dict[str, str]) -> Method:
    """Read one method's options, or its line in the table of foreign services."""
    request = message_factory.GetMessageClass(method.input_type)
    answer = message_factory.GetMessageClass(method.output_type)
    changes = "update_mask" in method.input_type.fields_by_name  # what is not changed need not be sent
    named = tuple(
        replace(field, required=field.required and not changes) for field in _named_fields(method.input_type, patterns)
    )
    streams = {"streams_in": method.client_streaming, "streams_out": method.server_streaming}
    if service in FOREIGN:
        foreign = FOREIGN[service].get(method.name, ForeignMethod())
        return Method(
            name=f"{service}/{method.name}",
            request=request,
            answer=answer,
            permission=foreign.permission,
            resource=None,
            template=foreign.template,
            whole=foreign.whole,
            callers=foreign.callers,
            internal=False,
            anyone=foreign.anyone,
            platform=False,
            category=foreign.category,
            timeout_s=_timeout_s(method),
            named=(),
            ruled=False,
            **streams,
        )
    options = method.GetOptions()
    access: options_pb2.Access = options.Extensions[options_pb2.access]  # type: ignore[index]
    record: options_pb2.Record = options.Extensions[options_pb2.record]  # type: ignore[index]
    if not access.visibility or not record.category:
        raise ValueError(f"{service}/{method.name} lacks an access or record option")
    return Method(
        name=f"{service}/{method.name}",
        request=request,
        answer=answer,
        permission=access.permission,
        resource=_find(access.resource, named) if access.resource else None,
        template=access.template,
        callers=frozenset(access.callers),
        internal=access.visibility == options_pb2.Access.INTERNAL,
        anyone=access.anyone,
        platform=access.platform,
        category=record.category,
        timeout_s=_timeout_s(method),
        max_body_bytes=options.Extensions[options_pb2.max_body_bytes],  # type: ignore[index]
        sparse=options.Extensions[options_pb2.sparse],  # type: ignore[index]
        named=named,
        **streams,
    )


def _timeout_s(method: MethodDescriptor) -> float | None:
    """What the contract says, or the default of its form."""
    options = method.GetOptions()
    if options.HasExtension(options_pb2.timeout):  # type: ignore[arg-type]
        said: Duration = options.Extensions[options_pb2.timeout]  # type: ignore[index]
        return float(said.ToTimedelta().total_seconds())
    return None if method.client_streaming or method.server_streaming else DEFAULT_TIMEOUT_S


def _find(dotted: str, named: tuple[ResourceField, ...]) -> ResourceField:
    for each in named:
        if each.dotted == dotted:
            return each
    raise ValueError(f"`{dotted}` is no field of the request that names a resource")


def _named_fields(
    message: Descriptor, patterns: dict[str, str], path: tuple[str, ...] = (), depth: int = 2
) -> Iterable[ResourceField]:
    """Fields with a resource reference, and the names of resources embedded in the request."""
    own = message.GetOptions().Extensions[resource_pb2.resource]
    for each in message.fields:
        here = (*path, each.name)
        if each.is_repeated:
            continue
        if each.message_type is not None and depth:
            yield from _named_fields(each.message_type, patterns, here, depth - 1)
            continue
        options = each.GetOptions()
        reference = options.Extensions[resource_pb2.resource_reference]
        required = field_behavior_pb2.REQUIRED in options.Extensions[field_behavior_pb2.field_behavior]
        if reference.type and reference.type in patterns:
            yield ResourceField(here, (patterns[reference.type],), required)
        elif reference.child_type and reference.child_type in patterns:
            yield ResourceField(here, (patterns[reference.child_type].rsplit("/", 2)[0],), required)
        elif path and own.pattern and each.name == "name":
            yield ResourceField(here, tuple(own.pattern), required=False)
