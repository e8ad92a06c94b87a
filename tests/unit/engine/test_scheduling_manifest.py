"""`scheduling` in a manifest: what it says, and what is refused with the line to write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.errors import ManifestError
from engine.manifest import parse_manifest
from engine.scheduler.policy import BatchPolicy, Level

LIMITS = BatchPolicy(32, 1024)


def policy(section):
    manifest = f"kind: onnx\nname: m\nscheduling: {section}\n"
    return parse_manifest(manifest.encode(), model="m").scheduling.policy(LIMITS)


def test_without_a_word_everything_is_as_the_settings_say():
    assert parse_manifest(b"kind: onnx\nname: m\n", model="m").scheduling.policy(LIMITS) == LIMITS


def test_every_key_reaches_the_queue():
    found = policy(
        "{max_batch: 16, max_delay_ms: 2, preferred_batch_sizes: [4, 8], max_queue: 100, timeout_ms: 500, "
        "priorities: {levels: 3, default: 3, max_queue: [10, 20, 30], timeout_ms: [100, 0, 0]}}"
    )
    assert found == BatchPolicy(
        max_rows=16,
        max_waiting=100,
        max_delay_s=0.002,
        preferred_rows=(4, 8),
        timeout_s=0.5,
        levels=(Level(10, 0.1), Level(20), Level(30)),
        default_level=3,
    )


def test_a_request_without_a_priority_is_in_the_middle():
    assert [policy(f"{{priorities: {{levels: {levels}}}}}").default_level for levels in (1, 2, 3, 4)] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("{max_bach: 4}", "did you mean `max_batch`"),
        ("{priorities: {level: 4}}", "unknown key `scheduling.priorities.level`"),
        ("{max_batch: 64}", "write `max_batch: 32`, or have the setting raised"),
        ("{max_queue: 5000}", "write `max_queue: 1024`"),
        ("{max_batch: 0}", "max_batch"),
        ("{preferred_batch_sizes: [4]}", "`max_delay_ms: 2`"),
        ("{max_delay_ms: 1, preferred_batch_sizes: [8, 4, 4]}", "write `preferred_batch_sizes: \\[4, 8\\]`"),
        ("{max_delay_ms: 1, max_batch: 4, preferred_batch_sizes: [8]}", "write `max_batch: 8`"),
        ("{max_delay_ms: 1, preferred_batch_sizes: [64]}", "write `preferred_batch_sizes: 32`"),
        ("{max_delay_ms: 50, timeout_ms: 50}", "every request would be refused"),
        ("{priorities: {levels: 2, default: 3}}", "write the line `default: 2`, or `levels: 3`"),
        ("{priorities: {levels: 3, timeout_ms: [10, 20]}}", "`timeout_ms: \\[10, 20, 20\\]`"),
        ("{priorities: {levels: 17}}", "scheduling.priorities.levels"),
    ],
)
def test_what_is_wrong_is_refused_with_the_line_to_write(section, line):
    with pytest.raises(ManifestError, match=line):
        policy(section)


def test_what_the_docs_show_is_read():
    page = (Path(__file__).parents[3] / "docs" / "scheduling.md").read_text()
    shown = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(shown) == 2
    for each in shown:
        name = re.search(r"^name: (.+)$", each, re.MULTILINE).group(1)
        parse_manifest(each.encode(), model=name).scheduling.policy(LIMITS)
