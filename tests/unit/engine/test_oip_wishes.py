"""What a request for a text may wish, and how it is read: any body is a wish, or one error with the field."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import BodyError, EngineError
from engine.oip.generate import read_generate
from engine.oip.texts import read_text_wish


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "no JSON object"),
        (b"[1]", "no JSON object"),
        (b"[" * 100_000, "no JSON object"),
        ({"parameters": {}}, "text_input: must be"),
        ({"text_input": 3}, "text_input: must be"),
        ({"text_input": ["a", 3]}, "text_input: must be"),
        ({"text_input": "a\udc00"}, "no JSON object"),
        ({"text_input": "a", "id": 3}, "id: must be"),
        ({"text_input": "a", "parameters": [1]}, "parameters: must be"),
        ({"text_input": "a", "seed": 2**70}, "seed: must be"),
        ({"text_input": "a", "stop": ["b"], "sampling_parameters": "{}"}, "sampling_parameters: send it as an object"),
        ({"text_input": "a", **{f"p{at}": at for at in range(300)}}, "at most 256"),
    ],
)
def test_a_body_that_is_no_such_request_is_refused_with_the_field(sent, words):
    with pytest.raises(BodyError, match=words):
        read_generate(sent if isinstance(sent, bytes) else json.dumps(sent).encode())


@given(
    st.dictionaries(
        st.sampled_from(["max_tokens", "temperature", "top_p", "stop", "seed", "json_schema", "stream", "other"])
        | st.text(max_size=5),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.text(max_size=3)),
        max_size=4,
    )
)
def test_any_body_is_read_or_refused_with_one_of_our_errors(fields):
    with suppress(EngineError):
        asked = read_generate(json.dumps({"text_input": "x", **fields}).encode())
        wish = read_text_wish(asked.parameters, {}, 7)
        assert isinstance(wish.sampling.max_tokens, int)


def test_what_is_not_wished_is_as_the_model_says():
    wish = read_text_wish({"timeout": 5, "stop": ""}, {}, 7)
    assert wish == read_text_wish({}, {}, 7)
    assert (wish.sampling.max_tokens, wish.sampling.temperature) == (7, None)
    assert (wish.stream, wish.with_prompt) == (None, False)
