"""Whether a request keeps its contract: `buf.validate` rules, and names that have their resource's form."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from protovalidate import Validator

from mesh.call import Call
from mesh.errors import Code, FieldViolation, TiationError
from mesh.resource import fits

__all__ = ["RequestInvalidError", "ValidationStage"]

_MAX_VIOLATIONS = 20
_ID_RULES = {
    r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$": "must be up to 63 lower-case letters, digits and hyphens, begin with a "
    "letter and not end with a hyphen",
    r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$": "must be up to 63 lower-case letters, digits and hyphens, and neither "
    "begin nor end with a hyphen",
}
"""What ids may be, in words, by the pattern in their contract."""


class RequestInvalidError(TiationError):
    """Fields of the request break the contract; each is named."""

    code = Code.INVALID_ARGUMENT
    reason = "REQUEST_INVALID"


class ValidationStage:
    """Checks requests against the rules in their descriptors."""

    def __init__(self) -> None:
        self._validator = Validator()

    def run(self, call: Call, request: Message) -> None:
        """Let a request pass, or name everything that is wrong with it.

        Raises:
            RequestInvalidError: with one violation a field.
        """
        if not call.method.named and not call.method.ruled:
            return
        violations = [
            FieldViolation(field.dotted, f"must look like `{field.patterns[0]}`")
            for field in call.method.named
            if (value := field.value(request)) or (field.required and field.is_there(request))
            if not any(fits(pattern, value) for pattern in field.patterns)
        ]
        for violation in self._validator.collect_violations(request) if call.method.ruled else ():
            field = violation.proto.field
            path = ".".join(map(_said, field.elements)) if field else ""
            said = _ID_RULES.get(violation.rule_value) if violation.proto.rule_id == "string.pattern" else None
            violations.append(FieldViolation(path, said or violation.proto.message))
        if violations:
            listed = "; ".join(f"{v.field}: {v.description}" for v in violations[:3])
            more = f" and {len(violations) - 3} more" if len(violations) > 3 else ""
            raise RequestInvalidError(listed + more, violations=tuple(violations[:_MAX_VIOLATIONS]))


def _said(element: Any) -> str:  # noqa: ANN401 -- a message of protovalidate's own
    """A field's name, and which of its values is meant: `texts[3]`, `labels["a"]`."""
    name, where = str(element.field_name), element.subscript
    if where is None:
        return name
    value = f'"{where.value[:64]}"' if isinstance(where.value, str) else f"{where.value}".lower()
    return f"{name}[{value}]"
