"""Where things stand in a file: unknown names and refused fields are said with their line."""

from __future__ import annotations

import pytest
from tiation.integration.v1 import connection_pb2 as pb

from cli.client import FileError
from cli.places import check_names, line_of

TEXT = """\
# a comment
name: shop
connector: http
config:
  base_url: https://shop.example.com
  auth:
    kind: oauth2
operations:
  - operationId: one
    spec: {path: /one}
  - operationId: two
    spec:
      path: /two
      errors:
        - as: refused
          status: [409]
"""


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("config.base_url", 5),
        ("config.auth.kind", 7),
        ("config.auth.token_url", 6),
        ("operations[0].spec.path", 10),
        ("operations[1].operation_id", 11),
        ("operations[1].spec.errors[0].status", 16),
        ("operations[1].spec.errors[0].status[0]", 16),
        ("operations[7].spec", 8),
        ("retry.max_attempts", 1),
    ],
)
def test_a_field_has_the_line_of_what_is_there_of_it(field, line):
    assert line_of(TEXT, field) == line


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("connector:", "conector:", "line 3: there is no `conector` here; did you mean `connector`?"),
        ("operations:", "opperations:", "line 8: there is no `opperations` here; did you mean `operations`?"),
        ("operationId: two", "operation: two", "line 11: there is no `operation` here; did you mean `operationId`?"),
        ("    spec:\n", "    zzz: 1\n    spec:\n", "line 12: there is no `zzz` here; known are effect, input, "),
    ],
)
def test_an_unknown_name_is_refused_with_its_line_and_the_nearest_one(tmp_path, old, new, words):
    file = tmp_path / "shop.yaml"
    file.write_text(TEXT)
    check_names(file, pb.Connection.DESCRIPTOR, also=frozenset({"name"}))
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(FileError) as caught:
        check_names(file, pb.Connection.DESCRIPTOR, also=frozenset({"name"}))
    assert words in caught.value.message
    assert str(file) in caught.value.message


def test_names_below_free_fields_are_the_connectors_to_check(tmp_path):
    file = tmp_path / "shop.yaml"
    file.write_text(TEXT.replace("base_url", "anything"))
    check_names(file, pb.Connection.DESCRIPTOR, also=frozenset({"name"}))
