"""A value of `model.yaml` that cannot be is told by its key, with what was given and what may stand there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from engine.errors import ManifestError
from engine.manifest import Manifest, parse_manifest
from engine.manifest.values import fault_of_value
from engine.manifest.words import alternatives, bare

Path = tuple[str | int, ...]
LISTS = (inspect.ListType, inspect.VarTupleType)
OF_MSGSPEC = re.compile(r"Expected|Invalid|Object|\$|`(int|float|str|bool|array|object|null)`|regex")
WORDS = {
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.BoolType: "true or false",
    inspect.StrType: "text",
    inspect.LiteralType: "one of ",
    inspect.VarTupleType: "a list",
    inspect.TupleType: "a list of ",
    inspect.ListType: "a list",
    inspect.DictType: "a table",
    inspect.StructType: "a table",
}


def below(kind: inspect.Type) -> Iterator[tuple[str | int, inspect.Type]]:
    """Where something stands in a value of this type, and what."""
    for each in map(bare, alternatives(kind)):
        if isinstance(each, inspect.StructType):
            yield from ((field.encode_name, field.type) for field in each.fields)
        elif isinstance(each, inspect.DictType):
            yield "key", each.value_type
        elif isinstance(each, LISTS):
            yield 0, each.item_type
        elif isinstance(each, inspect.TupleType):
            yield from enumerate(each.item_types)


def places(kind: inspect.Type, path: Path = ()) -> Iterator[tuple[Path, inspect.Type]]:
    for step, each in below(kind):
        yield (*path, step), each
        yield from places(each, (*path, step))


def example(kind: inspect.Type) -> Any:
    """A value that may stand there."""
    match bare(alternatives(kind)[0]):
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.BoolType():
            return True
        case inspect.IntType(ge=least):
            return least
        case inspect.FloatType(ge=least, le=most):
            return most or least or 0.5
        case inspect.StrType(pattern=pattern, min_length=least):
            return next(word for word in ("m", "cpu") if re.search(pattern, word)) if pattern else "t" * (least or 1)
        case each:
            return filled(each, {})


def filled(kind: inspect.Type, given: dict[str | int, Any]) -> Any:
    """A list or a table with these values, and no more than it must have besides."""
    for each in map(bare, alternatives(kind)):
        match each:
            case inspect.StructType(fields=fields) if all(isinstance(step, str) for step in given):
                needed = {field.encode_name: example(field.type) for field in fields if field.required}
                return needed | given
            case inspect.DictType(value_type=inner) if all(isinstance(step, str) for step in given):
                return {"key": example(inner)} | given
            case inspect.VarTupleType(item_type=inner, min_length=least) if all(step == 0 for step in given):
                return [given.get(0, example(inner)), *[example(inner)] * ((least or 1) - 1)]
            case inspect.TupleType(item_types=items) if all(isinstance(step, int) for step in given):
                return [given.get(at, example(inner)) for at, inner in enumerate(items)]
            case inspect.ListType():
                return list(given.values())
    raise AssertionError(kind)


def placed(kind: inspect.Type, path: Path, value: Any) -> Any:
    """An example with this value at a place."""
    if not path:
        return value
    inner = next(each for step, each in below(kind) if step == path[0])
    return filled(kind, {path[0]: placed(inner, path[1:], value)})


def said_of(cls: type, path: Path, value: Any) -> str:
    """What is said of a manifest with this value; empty where it is taken."""
    tree = {"kind": cls.__struct_config__.tag} | placed(FORMS[cls], path, value)
    try:
        parse_manifest(json.dumps(tree).encode(), model="m")
    except ManifestError as error:
        return error.violations[0].description
    return ""


def dotted(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


FORMS = {cls: inspect.type_info(cls) for cls in get_args(Manifest)}
PLACES = {(path, repr(kind)): (cls, path, kind) for cls, form in FORMS.items() for path, kind in places(form)}
"""Every place of every manifest; those that manifests share, once."""
WITH = [pytest.param(*each, id=f"{each[0].__name__}-{dotted(each[1])}") for each in PLACES.values()]


def with_types(*types: type) -> list[Any]:
    """The places where one of these types may stand, with the type."""
    return [
        pytest.param(cls, path, each, id=f"{cls.__name__}-{dotted(path)}-{type(each).__name__}")
        for cls, path, kind in PLACES.values()
        for each in map(bare, alternatives(kind))
        if isinstance(each, types)
    ]


@pytest.mark.parametrize(("cls", "path", "kind"), WITH)
def test_what_may_stand_there_is_no_fault(cls, path, kind):
    for each in alternatives(kind):
        if not isinstance(each, inspect.NoneType | inspect.CustomType):
            assert fault_of_value(placed(FORMS[cls], path, example(each)), FORMS[cls]) is None


@pytest.mark.parametrize(("cls", "path", "kind"), with_types(inspect.LiteralType))
def test_a_word_that_is_none_of_those_known_is_told_with_all_of_them(cls, path, kind):
    assert said_of(cls, path, "none-such") == (
        f"{dotted(path)}: is `none-such`; must be one of {', '.join(map(str, kind.values))}"
    )


def test_a_kind_that_is_not_known_is_told_with_all_of_them():
    with pytest.raises(ManifestError) as caught:
        parse_manifest(b"kind: oonx\nname: m\n", model="m")
    tags = {cls.__struct_config__.tag for cls in get_args(Manifest)}
    begin, _, known = caught.value.violations[0].description.partition("; must be one of ")
    assert (begin, set(known.split(", "))) == ("kind: is `oonx`", tags)


@pytest.mark.parametrize(("cls", "path", "kind"), with_types(inspect.IntType, inspect.FloatType))
def test_a_number_that_is_too_small_or_too_large_is_told_with_both_bounds(cls, path, kind):
    least, most = kind.gt if kind.ge is None else kind.ge, kind.le if kind.lt is None else kind.lt
    assert isinstance(kind, inspect.FloatType) or None not in (least, most)  # no program takes numbers of any length
    below = [] if least is None else [least - 1] if kind.gt is None else [least]
    above = [] if most is None else [most + 1] if kind.lt is None else [most]
    for number in below + above:
        given, _, wanted = said_of(cls, path, number).partition("; must be ")
        assert given == f"{dotted(path)}: is {number}"
        assert {float(each) for each in re.findall(r"-?\d+(?:\.\d+)?", wanted)} >= {
            float(each) for each in (least, most) if each is not None
        }


def of_length(kind: inspect.Type, length: int) -> Any:
    match kind:
        case inspect.StrType():
            return "t" * length
        case inspect.DictType():
            return {f"k{at}": example(kind.value_type) for at in range(length)}
        case _:
            return [example(kind.item_type)] * length


@pytest.mark.parametrize(("cls", "path", "kind"), with_types(inspect.StrType, inspect.DictType, *LISTS))
def test_what_is_too_short_or_too_long_is_told_with_both_lengths(cls, path, kind):
    least, most = kind.min_length, kind.max_length
    for length in ([least - 1] if least else []) + ([most + 1] if most else []):
        tree = placed(FORMS[cls], path, of_length(kind, length))
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(tree, cls)
        given, _, wanted = fault_of_value(tree, FORMS[cls]).partition("; must be ")
        assert given.startswith(f"{dotted(path)}: is ")
        assert {int(each) for each in re.findall(r"\d+", wanted)} >= {
            float(each) for each in (least, most) if each is not None
        }


@pytest.mark.parametrize(("cls", "path", "kind"), with_types(inspect.TupleType))
def test_a_list_that_is_too_short_or_too_long_is_told_with_its_length(cls, path, kind):
    for value, words in ([], "an empty list"), ([1.0] * 9, "a list of 9"):
        said = said_of(cls, path, value)
        assert said.startswith(f"{dotted(path)}: is {words}; must be a list of {len(kind.item_types)}, each ")


@pytest.mark.parametrize(
    ("cls", "path", "kind"), [each for each in with_types(inspect.StrType) if each.values[2].pattern]
)
def test_a_text_of_another_form_is_told_in_words(cls, path, kind):
    given, _, wanted = said_of(cls, path, "! no").partition("; must be ")
    assert given == f"{dotted(path)}: is `! no`"
    assert wanted
    assert kind.pattern not in wanted
    assert said_of(cls, path, f"{example(kind)}\n").startswith(f"{dotted(path)}: is ")


@pytest.mark.parametrize(("cls", "path", "kind"), WITH)
def test_a_value_of_another_type_is_told_by_its_key_and_in_plain_words(cls, path, kind):
    for value in (None, True, 3, 0.5, "", "! no", [], [[]], {}, {"key": {}}):
        if msgspec_takes(placed(FORMS[cls], path, value), cls) or (path, value) == (("batching",), True):
            continue
        said = said_of(cls, path, value)
        assert dotted(path) in said
        assert not OF_MSGSPEC.search(said)
        if said.startswith(f"{dotted(path)}: is "):
            some = any if isinstance(value, (list, dict)) else all
            assert some(word in said for word in words(kind))


def msgspec_takes(tree: Any, cls: type) -> bool:
    try:
        msgspec.convert(tree, cls)
    except msgspec.ValidationError:
        return False
    except ManifestError:
        pass
    return True


def words(kind: inspect.Type) -> list[str]:
    """What a message calls the types that may stand there."""
    return [
        each.extra_json_schema["description"] if isinstance(each, inspect.Metadata) else WORDS[type(each)]
        for each in (kind.types if isinstance(kind, inspect.UnionType) else (kind,))
        if not isinstance(each, inspect.NoneType)
    ]


def test_what_cannot_be_printed_is_written_out_in_whatever_is_said():
    cls = next(each for each in get_args(Manifest) if each.__struct_config__.tag == "ensemble")
    assert said_of(cls, ("outputs", "key"), "\x1f").startswith(r"outputs.key: `\x1f` is no output of a step")


@given(st.data())
def test_whatever_msgspec_refuses_is_told_in_our_words(data):
    cls, path, _ = data.draw(st.sampled_from(list(PLACES.values())))
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    value = data.draw(st.recursive(scalars, lambda of: st.lists(of) | st.dictionaries(st.text(), of), max_leaves=8))
    said = said_of(cls, path, value)
    assert not re.search(r"Expected `|Invalid |Object |at `\$|out of range", said)
    assert said.isprintable()


def test_a_character_that_json_writes_as_two_halves_is_one():
    manifest = parse_manifest(b'{"kind": "onnx", "name": "m", "labels": ["\\ud83d\\ude00"]}', model="m")
    assert manifest.labels == ("\U0001f600",)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("scheduling: {max_batch: 0}", "scheduling.max_batch: is 0; must be a whole number from 1 to 4096"),
        (
            "sequence: {states: [{input: a, output: a, initial: high}]}",
            "sequence.states[0].initial: is the text `high`; must be a number",
        ),
        (
            f"padding: {{axes: {{x: 1}}, values: {{x: 0x{'f' * 5000}}}}}",
            "padding.values.x: is a whole number of 20000 bits; must be a number",
        ),
        ('labels: ["\\ud83d"]', "line 3: holds half of a surrogate pair, which is no text"),
        ("label: 5", "label: is 5; must be text; in quotes it is text"),
    ],
)
def test_what_is_wrong_is_told_so(line, words):
    with pytest.raises(ManifestError) as caught:
        parse_manifest(f"kind: onnx\nname: m\n{line}\n".encode(), model="m")
    assert caught.value.violations[0].description == words


LONG = {
    "text": json.dumps("x" * 100_000),
    "escaped": json.dumps("\U0001f40d\n" * 9000),
    "number": "0x" + "f" * 5000,
    "list": json.dumps(["x"] * 2000),
    "table": json.dumps({"x" * 9000: 1}),
}


@pytest.mark.parametrize("given", LONG)
@pytest.mark.parametrize("key", ["batching", "file", "kind", "scheduling", "padding", "warm_up", "name"])
def test_what_was_given_is_told_in_bounded_length(key, given):
    lines = {"kind": "onnx", "name": "m"} | {key: LONG[given]}
    with pytest.raises(ManifestError) as caught:
        parse_manifest("".join(f"{each}: {value}\n" for each, value in lines.items()).encode(), model="m")
    assert len(caught.value.message) < 600


@pytest.mark.parametrize("key", ["1", "null", "0x" + "f" * 5000, '"\\ud800"', '"\\n"', "x" * 1000])
@pytest.mark.parametrize("place", ["{}", "padding: {{axes: {{x: 1}}, values: {{{}: a}}}}", "scheduling: {{{}: 1}}"])
def test_a_key_is_told_in_bounded_length_and_can_be_printed(place, key):
    line = place.format(key) if place != "{}" else f"? {key}\n: 1"
    with pytest.raises(ManifestError) as caught:
        parse_manifest(f"kind: onnx\nname: m\n{line}\n".encode(), model="m")
    assert len(caught.value.message) < 600
    assert caught.value.message.isprintable()
