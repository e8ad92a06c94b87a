"""Templates inside a worker: Jinja, as chat templates are written for Hugging Face's `apply_chat_template`.

Deadlines and memory are bounded from outside, by `mesh.sandbox` and `mesh.sandboxed.confine`. What a template may call
is what Jinja's own immutable sandbox allows: nothing of Python's, and it changes nothing that it was given.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NoReturn

import jinja2.debug  # Jinja's own, while it tells where a template failed: no file can be opened then any more
from jinja2 import Template, TemplateError, TemplateSyntaxError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mesh.sandboxed.frames import Status
from mesh.sandboxed.recent import Recent
from mesh.sandboxed.refusal import Refusal, capped

__all__ = ["Templates"]

_KEPT, _KEPT_BYTES = 64, 4 << 20


class Templates:
    """Renders templates.

    Args:
        max_output_bytes: the most that a text may have.
    """

    def __init__(self, max_output_bytes: int) -> None:
        self._max_output_bytes = max_output_bytes
        self._compiled: Recent[Template] = Recent(_KEPT, _KEPT_BYTES)
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _raise, "strftime_now": _now}
        self._environment = environment
        assert jinja2.debug  # noqa: S101 -- it is needed, see above
        for trial in ("{% for x in y %}{{ x | tojson }}{% break %}{% endfor %}", "{{ raise_exception('x') }}", "{% if"):
            try:  # whatever is loaded late is loaded now
                self.render(trial, b'{"y": [1]}')
            except Refusal:
                continue

    def render(self, template: str, variables: bytes) -> bytes:
        """The text, as JSON.

        Args:
            template: the template.
            variables: a JSON object.

        Raises:
            Refusal: it does not compile, failed, or gives too much.
        """
        given: dict[str, Any] = json.loads(variables)
        try:
            compiled = self._compiled.get(template)
            if compiled is None:
                compiled = self._environment.from_string(template)
                self._compiled.put(template, compiled, len(template) * 16)
            text = compiled.render(given)
        except (MemoryError, RecursionError, Refusal):
            raise
        except TemplateError as error:
            where = f"line {error.lineno}: " if isinstance(error, TemplateSyntaxError) else ""
            raise Refusal(Status.TEMPLATE_INVALID, message=capped(f"{where}{error.message or error}")) from None
        except Exception as error:  # noqa: BLE001 -- a template may lead Python into any of them
            raise Refusal(Status.TEMPLATE_INVALID, message=capped(f"{type(error).__name__}: {error}")) from None
        encoded = json.dumps(text, ensure_ascii=False).encode(errors="replace")
        if len(encoded) > self._max_output_bytes:
            raise Refusal(Status.TOO_LARGE, bytes=len(encoded))
        return encoded


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:  # noqa: ANN401 -- as templates call it
    """JSON as it is, not escaped for HTML as Jinja's own does it."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise(message: object) -> NoReturn:
    """How a template refuses a conversation."""
    raise TemplateError(str(message))


def _now(form: str) -> str:
    return datetime.now(UTC).strftime(form)
