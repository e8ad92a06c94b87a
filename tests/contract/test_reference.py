"""The API reference says everything that the contracts say, and all its links lead somewhere."""

import re

import pytest

from tests.contract.conftest import ROOT
from tools.contracts import Contracts
from tools.reference import pages

LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")


@pytest.fixture(scope="module")
def reference(contracts: Contracts) -> dict[str, str]:
    return pages(contracts)


def section(page: str, heading: str) -> str:
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_every_method_is_shown_with_its_way_in_its_permission_and_its_limit(reference: dict[str, str]) -> None:
    said = section(reference["RunService.md"], "CreateRun")
    assert "POST /v1/{parent=tenants/*/agents/*}/runs    body: run" in said
    assert "- Permission `orchestrator.runs.create` on `parent`\n- Recorded as WRITE\n- At most 60s\n" in said
    assert "Takes [CreateRunRequest](#createrunrequest), answers [Run](#run)" in said
    assert "answers a stream of [StreamRunEventsResponse]" in section(reference["RunService.md"], "StreamRunEvents")
    assert "Internal: called by `analytics`" in section(reference["RunService.md"], "CountLiveRuns")
    infer = section(reference["GRPCInferenceService.md"], "ModelInfer")
    assert "Permission `engine.models.infer` on `tenants/{tenant}/models/{model_name}`\n- Recorded as EXECUTE" in infer
    assert "Needs no token" in section(reference["TokenService.md"], "ExchangeApiKey")


def test_every_field_is_shown_with_its_type_its_behaviour_and_its_limits(reference: dict[str, str]) -> None:
    request = section(reference["ApprovalService.md"], "SubmitInputRequest")
    row = next(line for line in request.splitlines() if line.startswith("| `outcome`"))
    assert row == (
        "| `outcome` | string | required | One of the approval's options, for example `approve`. Not empty, "
        "at most 63 characters. |"
    )
    run = section(reference["RunService.md"], "Run")
    assert "| `output` | `google.protobuf.Value` | output only |" in run
    assert "| `state` | [Run.State](#runstate) | output only |" in run
    assert "| `labels` | map of string to string |" in run
    assert "| `DEAD_LETTERED` (20) | Given up by the platform" in section(reference["RunService.md"], "Run.State")


def test_nothing_of_the_contracts_is_left_out(contracts: Contracts, reference: dict[str, str]) -> None:
    whole = "\n".join(reference.values())
    for method in contracts.methods():
        assert section(reference[f"{method.containing_service.name}.md"], method.name), method.full_name
    for kind in [*contracts.messages(), *contracts.enums()]:
        heading = kind.full_name.removeprefix(f"{kind.file.package}.")
        assert f"\n## {heading}\n" in whole, kind.full_name
    for message in contracts.messages():
        for field in message.fields:
            assert f"| `{field.name}` |" in whole, field.full_name
    assert all(f"]({name})" in reference["README.md"] for name in reference if name != "README.md")


def test_every_link_leads_somewhere_and_no_place_is_there_three_times(reference: dict[str, str]) -> None:
    places = {}
    for name, page in reference.items():
        found = [line[3:].lower().replace(".", "").replace(" ", "-") for line in page.splitlines() if line[:3] == "## "]
        again = [f"{place}-1" for at, place in enumerate(found) if place in found[:at]]  # as GitHub calls them
        places[name] = {*found, *again}
        assert len(found) == len(places[name]), name
    for name, page in reference.items():
        for target, anchor in LINK.findall(re.sub(r"`[^`]*`", "", page)):
            if target.startswith("../"):
                assert (ROOT / "docs" / "api" / target).exists(), target
                continue
            assert not anchor or anchor in places[target or name], f"{name}: {target}#{anchor}"
            assert not target or target in reference


def test_no_row_of_a_table_has_a_cell_too_many(reference: dict[str, str]) -> None:
    for name, page in reference.items():
        for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, f"{name}: {table}"
