"""Analytics beside the services it counts: exact, apart by tenant, for those who may, and not in anybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from tiation.analytics.v1 import metric_pb2, metric_pb2_grpc
from tiation.mesh.v1 import call_record_pb2
from tiation.security.v1 import record_pb2, record_pb2_grpc, tenant_pb2, tenant_pb2_grpc

from tests.fakes.answers import refused
from tests.fakes.platform import Platform, platform

DEFAULT = "tenants/default"
GET = tenant_pb2.GetTenantRequest(name=DEFAULT)
METHOD = "tiation.security.v1.TenantService/GetTenant"


@pytest.fixture
async def measured(tmp_path) -> AsyncIterator[Platform]:
    """A platform with security and analytics."""
    async with platform(tmp_path, ("security", "analytics")) as made:
        yield made


async def gets(here: Platform, number: int, authorization) -> None:
    """So many calls to be counted."""
    async with here.channel("security") as channel:
        stub = tenant_pb2_grpc.TenantServiceStub(channel)
        await asyncio.gather(*(stub.GetTenant(GET, metadata=[authorization]) for _ in range(number)))


async def query(channel, authorization, **given) -> metric_pb2.QueryMetricsResponse:
    request = metric_pb2.QueryMetricsRequest(parent=given.pop("parent", DEFAULT), **given)
    return await metric_pb2_grpc.AnalyticsServiceStub(channel).QueryMetrics(request, metadata=[authorization])


async def calls_counted(here: Platform, authorization, wanted: int, timeout_s: float = 20.0) -> float:
    """How many calls of the method are counted, once as many as wanted are, or time is over."""
    async with here.channel("analytics") as channel:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            answer = await query(channel, authorization, metrics=["calls"], filter=f'method = "{METHOD}"')
            found = answer.totals.values["calls"]
            if found >= wanted or asyncio.get_running_loop().time() > deadline:
                return found
            await asyncio.sleep(0.05)


async def test_every_call_is_counted_once_also_when_analytics_was_away(measured: Platform):
    operator = await measured.token()
    await gets(measured, 40, operator)
    assert await calls_counted(measured, operator, 40) == 40
    await measured.stop("analytics")
    await gets(measured, 60, operator)  # nobody is hindered by its absence
    await measured.start("analytics")
    assert await calls_counted(measured, operator, 100) == 100
    await measured.stop("security")
    await measured.start("security")
    operator = await measured.token()
    await gets(measured, 20, operator)
    assert await calls_counted(measured, operator, 120) == 120
    await asyncio.sleep(0.5)
    assert await calls_counted(measured, operator, 121, timeout_s=0.1) == 120


async def test_what_is_measured_is_listed_and_described(measured: Platform):
    operator = await measured.token()
    async with measured.channel("analytics") as channel:
        stub = metric_pb2_grpc.AnalyticsServiceStub(channel)
        names, token = [], ""
        while True:
            request = metric_pb2.ListMetricsRequest(parent=DEFAULT, page_size=7, page_token=token)
            page = await stub.ListMetrics(request, metadata=[operator])
            names += [metric.name for metric in page.metrics]
            token = page.next_page_token
            if not token:
                break
        assert names[0] == f"{DEFAULT}/metrics/calls"
        assert len(names) == len(set(names)) > 20
        answer = await query(channel, operator, metrics=[name.rsplit("/", 1)[1] for name in names])
        assert answer.granularity == metric_pb2.MINUTE
        found = await stub.GetMetric(
            metric_pb2.GetMetricRequest(name=f"{DEFAULT}/metrics/latency-p95"), metadata=[operator]
        )
        assert (found.unit, found.estimated) == ("ms", True)
        missing = stub.GetMetric(metric_pb2.GetMetricRequest(name=f"{DEFAULT}/metrics/speed"), metadata=[operator])
        await refused(missing, grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_a_tenants_figures_are_its_own(measured: Platform):
    operator = await measured.token()
    system = await measured.token(tenant="system")
    await gets(measured, 5, operator)
    assert await calls_counted(measured, operator, 5) == 5
    async with measured.channel("analytics") as channel:
        stub = metric_pb2_grpc.AnalyticsServiceStub(channel)
        for parent in ("tenants/system", "tenants/acme"):
            await refused(query(channel, operator, parent=parent), grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")
            for call in (
                stub.StreamMetrics(metric_pb2.StreamMetricsRequest(parent=parent), metadata=[operator]),
                stub.ExportUsage(metric_pb2.ExportUsageRequest(parent=parent), metadata=[operator]),
            ):
                await refused(anext(aiter(call)), grpc.StatusCode.NOT_FOUND)
        theirs = await query(channel, system, parent="tenants/system", filter=f'method = "{METHOD}"')
        assert not theirs.series


@pytest.mark.parametrize(
    ("role", "may"),
    [("viewer", set()), ("operator", set()), ("developer", {"export"}), ("auditor", {"export"})],
)
async def test_every_role_may_ask_and_some_may_take_files_away(measured: Platform, role: str, may: set[str]):
    authorization = await measured.token(role=role)
    async with measured.channel("analytics") as channel:
        stub = metric_pb2_grpc.AnalyticsServiceStub(channel)
        await query(channel, authorization)
        await stub.ListMetrics(metric_pb2.ListMetricsRequest(parent=DEFAULT), metadata=[authorization])
        export = stub.ExportUsage(metric_pb2.ExportUsageRequest(parent=DEFAULT), metadata=[authorization])
        if "export" in may:
            assert (await anext(aiter(export))).data.startswith(b"start_time,")
            return
        await refused(anext(aiter(export)), grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")


async def test_hostile_questions_get_one_clear_error(measured: Platform):
    operator = await measured.token()
    cases = [
        ({"metrics": ["speed"]}, "INVALID_FIELD"),
        ({"metrics": ["calls"] * 2}, "REQUEST_INVALID"),
        ({"metrics": [f"m{n}" for n in range(40)]}, "REQUEST_INVALID"),
        ({"group_by": ["tenant"]}, "INVALID_FIELD"),
        ({"filter": "agent = x OR 1=1"}, "INVALID_FIELD"),
        ({"filter": "a" * 3000}, "REQUEST_INVALID"),
        ({"order_by": "calls; DROP TABLE rollups"}, "INVALID_FIELD"),
        ({"limit": -1}, "REQUEST_INVALID"),
        ({"limit": 1001}, "REQUEST_INVALID"),
        ({"granularity": 9}, "REQUEST_INVALID"),
        ({"start_time": {"seconds": 0}, "end_time": {"seconds": 1_790_000_000}, "granularity": 1}, "QUERY_TOO_LARGE"),
        ({"start_time": {"seconds": 10}, "end_time": {"seconds": 5}}, "INVALID_FIELD"),
        ({"start_time": {"seconds": -(10**15)}}, ""),
    ]
    async with measured.channel("analytics") as channel:
        for given, reason in cases:
            await refused(query(channel, operator, **given), grpc.StatusCode.INVALID_ARGUMENT, reason)
        stub = metric_pb2_grpc.AnalyticsServiceStub(channel)
        for window in ({"seconds": 0}, {"seconds": 3601}):
            request = metric_pb2.StreamMetricsRequest(parent=DEFAULT, window=window)
            await refused(
                anext(aiter(stub.StreamMetrics(request, metadata=[operator]))), grpc.StatusCode.INVALID_ARGUMENT
            )


async def test_a_live_stream_says_that_it_ends_when_the_service_stops(measured: Platform):
    operator = await measured.token()
    async with measured.channel("analytics") as channel:
        stub = metric_pb2_grpc.AnalyticsServiceStub(channel)
        stream = aiter(stub.StreamMetrics(metric_pb2.StreamMetricsRequest(parent=DEFAULT), metadata=[operator]))
        assert not (await anext(stream)).HasField("error")
        stopping = asyncio.create_task(measured.stop("analytics"))
        last = [answer async for answer in stream][-1]
        await stopping
    assert last.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert "after_sequence=" in last.error.message


async def test_the_stream_of_records_holds_each_once_in_order_from_where_it_is_resumed(measured: Platform):
    operator = await measured.token()
    await gets(measured, 30, operator)
    assert await calls_counted(measured, operator, 30) == 30
    async with measured.channel("security", "analytics") as channel:
        stub = record_pb2_grpc.RecordServiceStub(channel)

        async def read(after: int, number: int) -> list[record_pb2.SequencedRecord]:
            found: list[record_pb2.SequencedRecord] = []
            async for answer in stub.StreamRecords(record_pb2.StreamRecordsRequest(after_sequence=after)):
                found += answer.records
                assert not answer.records or answer.newest_sequence >= answer.records[-1].sequence
                if len(found) >= number:
                    return found
            return found

        first = await read(0, 30)
        sequences = [record.sequence for record in first]
        assert sequences == sorted(set(sequences))
        assert len({record.call.uid for record in first}) == len(first)
        assert [record.sequence for record in await read(sequences[9], 20)][:20] == sequences[10:30]


async def test_the_stream_of_records_is_for_analytics_alone(measured: Platform):
    operator = await measured.token()
    for workload, metadata in (("gateway", [operator]), ("engine", []), ("orchestrator", [operator])):
        async with measured.channel("security", workload) as channel:
            call = record_pb2_grpc.RecordServiceStub(channel).StreamRecords(
                record_pb2.StreamRecordsRequest(), metadata=metadata
            )
            await refused(anext(aiter(call)), grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")


async def test_a_record_that_comes_twice_is_counted_once(measured: Platform):
    operator = await measured.token()
    record = call_record_pb2.CallRecord(uid="01a2", service="engine", method=METHOD, tenant="default", category="READ")
    record.start_time.GetCurrentTime()
    async with measured.channel("security", "engine") as channel:
        stub = record_pb2_grpc.RecordServiceStub(channel)
        for stored in (1, 0, 0):
            answer = await stub.AppendRecords(record_pb2.AppendRecordsRequest(records=[record]))
            assert answer.stored == stored
    assert await calls_counted(measured, operator, 1) == 1
    await asyncio.sleep(1.5)
    assert await calls_counted(measured, operator, 2, timeout_s=0.1) == 1
