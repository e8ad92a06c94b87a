"""Templates in the sandbox: what chat templates need, and nothing of the process that they run in."""

from __future__ import annotations

import pytest

from mesh.sandbox import (
    SandboxDeadlineError,
    SandboxInputError,
    SandboxMemoryError,
    SandboxOutputTooLargeError,
    SandboxPool,
    TemplateInvalidError,
)

MESSAGES = {"messages": [{"role": "user", "content": "hé <b>"}], "tools": [{"name": "a", "parameters": {"x": [1]}}]}


@pytest.fixture
async def pool():
    made = SandboxPool(deadline_s=0.5)
    yield made
    await made.close()


async def test_templates_are_rendered_as_hugging_face_renders_them(pool):
    template = """{% for message in messages %}
    {%- if loop.first %}<s>{% endif %}
[{{ message['role'] | upper }}] {{ message.content | trim }}
{% endfor %}
{{ tools | tojson }}{{ tools[0] | tojson(indent=1) }}{% set ns = namespace(n=0) %}{% for x in range(9) %}
{%- if x > 3 %}{% break %}{% endif %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }} {{ strftime_now('%Y')[:2] }}"""
    rendered = await pool.render(template, MESSAGES, owner="t")
    assert rendered == (
        '<s>[USER] hé <b>\n[{"name": "a", "parameters": {"x": [1]}}]'
        '{\n "name": "a",\n "parameters": {\n  "x": [\n   1\n  ]\n }\n}6 20'
    )


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(a=1) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ range(10 ** 9) }}",
        "{% if %}",
        "{{ raise_exception('roles must alternate') }}",
        "{{ nothing.at.all }}",
        "{{ 1 / 0 }}",
    ],
)
async def test_what_a_template_may_not_do_is_an_error_of_its_own(pool, template):
    with pytest.raises(TemplateInvalidError) as refused:
        await pool.render(template, MESSAGES, owner="t")
    assert "/work" not in str(refused.value)
    assert await pool.render("{{ messages[0].content }}", MESSAGES, owner="t") == "hé <b>"


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", SandboxDeadlineError),
        ("{{ 'a' * 10 ** 9 }}", SandboxMemoryError),
        ("{{ 'a' * 2 * 10 ** 6 }}", SandboxOutputTooLargeError),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", SandboxOutputTooLargeError),
        ("x" * 70_000, SandboxInputError),
    ],
)
async def test_a_template_that_breaks_a_limit_costs_its_own_call(pool, template, error):
    with pytest.raises(error):
        await pool.render(template, MESSAGES, owner="t")
    assert await pool.render("{{ messages[0].content }}", MESSAGES, owner="t") == "hé <b>"
