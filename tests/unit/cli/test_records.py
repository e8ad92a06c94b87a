"""`records list`: what it shows, in which order."""

from __future__ import annotations

import json

from tiation.security.v1 import record_pb2 as pb
from tiation.security.v1 import record_pb2_grpc

from tests.unit.cli.conftest import served


class Records(record_pb2_grpc.RecordServiceServicer):
    """Security, which heard of calls in another order than they came in."""

    def ListRecords(self, request, context):
        answer = pb.ListRecordsResponse()
        for at, milliseconds in enumerate((663, 649, 636, 699)):
            call = answer.records.add().call
            call.method = f"tiation.engine.v1.ModelService/Get{at}"
            call.start_time.FromMilliseconds(1_800_000_000_000 + milliseconds)
        return answer


def test_the_newest_call_comes_first_whenever_security_heard_of_it(tiation, home):
    with served(home, (record_pb2_grpc.add_RecordServiceServicer_to_server, Records())):
        shown = tiation("records", "list", "--home", str(home.path)).out.splitlines()[1:]
        listed = json.loads(tiation("records", "list", "--home", str(home.path), "--output", "json").out)
    assert [line.split()[0][-3:] for line in shown] == ["699", "663", "649", "636"]
    assert [each["call"]["startTime"][-4:-1] for each in listed] == ["699", "663", "649", "636"]
