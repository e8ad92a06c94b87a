"""From tokens to text: whole characters, stop texts, calls of tools, whatever the borders between tokens are."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import PromptError
from engine.generation.answer import Answer
from engine.generation.base import Piece, Prompt, Tool, ToolCall
from engine.generation.text import Characters, StopTexts
from engine.generation.tools import CallReader, check_tools, marked_calls
from tests.fakes.decoders import byte_tokenizer

MARKS = ("<tool_call>", "</tool_call>")
TOKENIZER = byte_tokenizer()


def cut(text: str, places: list[int]) -> list[str]:
    """A text in pieces, cut at some places."""
    ends = sorted({min(place, len(text)) for place in places} | {len(text)})
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


@given(st.text(max_size=60))
def test_the_characters_of_tokens_are_those_of_the_text_and_each_comes_whole(text):
    characters = Characters(TOKENIZER)
    pieces = [characters.push(token) for token in TOKENIZER.encode(text, add_special_tokens=False).ids]
    assert "".join(pieces) + characters.rest() == text
    if "\ufffd" not in text:
        assert all("\ufffd" not in piece for piece in pieces)


def test_a_character_that_never_becomes_whole_is_shown_as_unknown_at_the_end():
    characters = Characters(TOKENIZER)
    tokens = TOKENIZER.encode("é").ids
    assert len(tokens) == 2
    assert characters.push(tokens[0]) == ""
    assert characters.rest() == "\ufffd"


def test_bytes_that_are_no_text_do_not_keep_what_follows_waiting():
    characters = Characters(TOKENIZER)
    broken = TOKENIZER.encode("é").ids[:1]
    shown = "".join(characters.push(token) for token in broken * 20 + TOKENIZER.encode("abcdefghi").ids)
    assert shown.endswith("defghi")


@given(
    st.text("ab<>", max_size=40),
    st.lists(st.text("ab<>", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 40)),
)
def test_a_text_ends_before_the_first_stop_text_wherever_it_is_cut(text, stops, places):
    found = StopTexts(stops)
    shown = ""
    for piece in cut(text, places):
        shown += found.push(piece)
        if found.found:
            break
    else:
        shown += found.rest()
    earliest = min((text.index(stop) for stop in stops if stop in text), default=None)
    # The first stop text to be complete wins: one that is longer and begins earlier may not be there yet.
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    if earliest is None:
        assert shown == text
    else:
        assert found.found
        assert text.startswith(shown)
        assert len(shown) <= max(text.index(stop) for stop in stops if stop in text)
        assert all(stop not in shown for stop in stops) or len(shown) < min(ends)


@given(st.lists(st.integers(0, 80), max_size=12), st.sampled_from(["", "I will look. ", "a < b "]))
def test_calls_are_taken_out_of_a_text_wherever_it_is_cut(places, before):
    calls = [{"name": "find", "arguments": {"x": "<tool>"}}, {"name": "stop", "arguments": {}}]
    text = before + "\n".join(f"{MARKS[0]}{json.dumps(call)}{MARKS[1]}" for call in calls)
    reader = CallReader(MARKS, ["find", "stop"], iter("12").__next__)
    pieces = cut(text, places)
    shown, found = "", ()
    for at, piece in enumerate(pieces):
        told, found = reader.push(piece, last=at == len(pieces) - 1)
        shown += told
    assert shown.rstrip() == before.rstrip()
    assert found == (ToolCall("1", "find", '{"x": "<tool>"}'), ToolCall("2", "stop", "{}"))


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>{",
        '<tool_call>{"name": "other", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "find", "arguments": 3}</tool_call>',
        "<tool_call>[1]</tool_call>",
        '<tool_call>{"name": "find", "arguments": {}}</tool_call> and more',
        "<tool_call>" + "[" * 5000,
    ],
)
def test_what_reads_as_no_call_is_shown_as_it_is(text):
    assert CallReader(MARKS, ["find"], str).push(text, last=True) == (text, ())


def pieces_of(tokens, ending, stops=(), together=1) -> list[Piece | None]:
    """What an answer of these tokens shows, so many of them at once."""
    answer = Answer(TOKENIZER, stops=stops, prompt_tokens=1)
    found = []
    for at in range(0, len(tokens), together):
        last = at + together >= len(tokens)
        found.append(answer.push([(token, None) for token in tokens[at : at + together]], ending if last else None))
        if answer.over:
            break
    return found


def test_an_answer_ends_at_a_token_that_ends_it_with_all_that_was_held_back():
    end = TOKENIZER.token_to_id("<|end|>")
    pieces = pieces_of([*TOKENIZER.encode("xabc").ids, end], "end", stops=("abcd",))
    assert pieces[0] is not None
    assert pieces[1:4] == [None, None, None]
    assert (pieces[4].text, pieces[4].finish, pieces[4].completion_tokens) == ("abc", "stop", 5)


@given(
    st.text("abé€", min_size=1, max_size=30),
    st.lists(st.text("abé", min_size=1, max_size=3), max_size=2),
    st.sampled_from(["end", "complete", "length"]),
    st.integers(1, 9),
)
def test_tokens_that_come_together_make_the_text_and_the_end_that_they_make_one_by_one(text, stops, ending, together):
    tokens = TOKENIZER.encode(text, add_special_tokens=False).ids
    told = []
    for size in (1, together):
        pieces = [piece for piece in pieces_of(tokens, ending, stops, size) if piece is not None]
        told.append(("".join(piece.text for piece in pieces), pieces[-1].finish, pieces[-1].completion_tokens))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (Prompt(tools=(Tool("a", "", {}), Tool("a", "", {}))), "a name twice"),
        (Prompt(tools=(Tool("a", "", {}),), tool_choice="b"), "none of the tools"),
        (Prompt(tools=tuple(Tool(str(at), "", {}) for at in range(129))), "at most 128"),
    ],
)
def test_tools_that_do_not_go_together_are_refused(prompt, words):
    with pytest.raises(PromptError, match=words):
        check_tools(prompt)


def test_an_earlier_call_whose_arguments_are_no_object_is_refused():
    with pytest.raises(PromptError, match="no JSON object"):
        marked_calls([ToolCall("1", "a", "[1")])
