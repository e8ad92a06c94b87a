"""Writes the API reference, a Markdown page for each service, from our contracts.

What a method says about itself is in `methods.py`, how messages and enums are shown in `types.py`. No contract is known
here by name.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor

from tools.contracts import Contracts
from tools.openapi.schemas import sentence
from tools.reference.methods import Methods
from tools.reference.types import Types

__all__ = ["pages", "render"]

_OTHERS = "types.md"
_INDEX = """\
# API reference

Written by `tools/generate.py` from the comments and options in [proto](../../proto); do not edit it. The same as
OpenAPI is at `/openapi.json` on the gateway.

- **Names.** A resource's `name` is its whole path, `tenants/default/agents/support-triage`.
- **JSON.** Field names are camelCase (`page_size` is `pageSize`), 64-bit integers are text, bytes are base64, a
  `Duration` is `"1.5s"`, a `Timestamp` is RFC 3339, a field mask is `"displayName,labels"`.
- **REST.** Fields that stand in the path are taken from there; with `body: *` the rest is the body, with a
  field's name that field is and the rest are query parameters, without a body all are.
- **Streams** are `text/event-stream` over REST.
- **Permission** is what the caller's roles must hold, on the resource that the field names.
- **Recorded as** READ, WRITE or EXECUTE; while the policy may be out of date a WRITE is refused.

## Errors

Every error is a `google.rpc.Status`. Over REST it is the body; over gRPC it is in the trailer
`grpc-status-details-bin`.

```json
{
  "code": 5,
  "message": "what went wrong, and what to do about it",
  "details": [
    {
      "@type": "type.googleapis.com/google.rpc.ErrorInfo",
      "reason": "UPPER_SNAKE, one a cause: what programs look at",
      "domain": "orchestrator.tiation.dev",
      "metadata": {"name": "whatever varies in the message"}
    }
  ]
}
```

There is exactly one `ErrorInfo`. Beside it stand a `BadRequest` with the path of each field that is wrong, a
`QuotaFailure` that says whose limit was met, a `RetryInfo` with the time after which to come back (over REST also
`Retry-After`).

| code | REST | means |
|---|---|---|
| INVALID_ARGUMENT (3), OUT_OF_RANGE (11) | 400 | the request can never succeed as it is |
| FAILED_PRECONDITION (9) | 400 | not in the state that things are in now |
| UNAUTHENTICATED (16) | 401 | no token, or one that is not valid |
| PERMISSION_DENIED (7) | 403 | the caller may not do this in its own tenant |
| NOT_FOUND (5) | 404 | it is not there, or it is another tenant's |
| ALREADY_EXISTS (6), ABORTED (10) | 409 | the name is taken; somebody else was faster |
| RESOURCE_EXHAUSTED (8) | 429 | a limit was met |
| CANCELLED (1) | 499 | the caller went away |
| UNKNOWN (2), INTERNAL (13), DATA_LOSS (15) | 500 | something went wrong on our side |
| UNIMPLEMENTED (12) | 501 | there is no such method |
| UNAVAILABLE (14) | 503 | try again |
| DEADLINE_EXCEEDED (4) | 504 | it took too long |
"""


def render(compiled: descriptor_pb2.FileDescriptorSet, own: Iterable[str]) -> dict[str, str]:
    """Every page, by its file's name.

    Args:
        compiled: all files with all imports and with source info.
        own: names of the files that are ours.
    """
    return pages(Contracts(compiled, own))


def pages(contracts: Contracts) -> dict[str, str]:
    """Every page, by its file's name."""
    homes = {file.name: _home(file) for file in contracts.files}
    types, methods = Types(contracts, homes), Methods(contracts)
    made: dict[str, list[str]] = {}
    for file in contracts.files:
        page = homes[file.name]
        parts = made.setdefault(page, [])
        for service in file.services_by_name.values():
            parts.append(_head(contracts, service))
            parts.extend(methods.table(service))
            parts.extend(methods.section(method, types, page) for method in service.methods)
        if not parts:
            parts.append("# Types of several services\n")
        parts.extend(types.sections(file, page))
    texts = {page: "\n".join(parts).rstrip() + "\n" for page, parts in made.items()}
    return {"README.md": _INDEX + "\n" + _list(contracts, methods, homes), **texts}


def _home(file: FileDescriptor) -> str:
    """The page of what a file declares: its service's, or the one of all files without a service."""
    return f"{next(iter(file.services_by_name))}.md" if file.services_by_name else _OTHERS


def _head(contracts: Contracts, service: ServiceDescriptor) -> str:
    file = service.file.name
    source = f"`{service.full_name}`, in [{file}](../../proto/{file})."
    return f"# {service.name}\n\n{contracts.comment(service)}\n\n{source}\n"


def _list(contracts: Contracts, methods: Methods, homes: dict[str, str]) -> str:
    public: list[str] = []
    internal: list[str] = []
    for service in contracts.services():
        line = f"| [{service.name}]({homes[service.file.name]}) | {sentence(contracts.comment(service))} |"
        (public if methods.any_public(service) else internal).append(line)
    head = "| service | what it does |\n|---|---|\n"
    return (
        f"## Services\n\n{head}"
        + "\n".join(public)
        + "\n\n## Between services\n\nThese have no way in from outside.\n\n"
        f"{head}" + "\n".join(internal) + f"\n\nWhat belongs to no service alone is in [{_OTHERS}]({_OTHERS}).\n"
    )
