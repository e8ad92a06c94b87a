"""Figures of models: counted once, shown under Triton's exact names, cheap."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from engine.durations import Duration
from engine.errors import InferenceFailedError, InferenceTimeoutError, ModelNotReadyError, QueueFullError, TensorError
from engine.metrics import EngineMetrics
from engine.scheduler.batcher import Batcher
from engine.scheduler.observer import Ran
from engine.scheduler.pieces import in_turn
from engine.scheduler.policy import BatchPolicy

MODEL = "tenants/t/models/m"
LABELS = {"model": MODEL, "version": "1"}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry) -> EngineMetrics:
    return EngineMetrics(registry)


@pytest.fixture
def figures(metrics):
    made = metrics.of(MODEL, 1)
    made.watch(lambda: 0)
    return made


def ran(requests: int = 1, rows: int = 1, **more) -> Ran:
    return Ran(requests, rows, 10.0, 10.1, input_s=0.01, output_s=0.02, **more)


def test_a_request_that_was_answered_counts_with_the_times_of_its_run(figures, registry):
    with figures.request():
        figures.batch(ran())
        figures.answered(ran(), 0.5)
    now = figures.statistics()
    assert now.success.count == now.queue.count == now.compute_infer.count == 1
    assert now.fail == now.cache_hit == now.cache_miss == Duration()
    assert now.queue.ns == 500_000_000
    assert now.compute_input.ns == 10_000_000
    assert now.compute_infer.ns == pytest.approx(70_000_000)
    assert now.compute_output.ns == 20_000_000
    assert (time.time() * 1000 - now.last_inference_ms) < 5000
    for name, value in {
        "request_success": 1, "count": 1, "exec_count": 1, "queue_duration_us": 500_000,
        "compute_input_duration_us": 10_000, "compute_infer_duration_us": 70_000,
        "compute_output_duration_us": 20_000, "pending_request_count": 0,
    }.items():  # fmt: skip
        assert registry.get_sample_value(f"nv_inference_{name}", LABELS) == pytest.approx(value), name


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (QueueFullError("full"), "REJECTED"),
        (ModelNotReadyError("goes"), "REJECTED"),
        (asyncio.CancelledError(), "CANCELED"),
        (InferenceFailedError("broken"), "BACKEND"),
        (InferenceTimeoutError("slow"), "BACKEND"),
        (TensorError("x", "wrong"), "OTHER"),
        (ValueError("ours"), "OTHER"),
    ],
)
def test_a_request_that_failed_counts_by_tritons_reason_and_adds_to_no_other_time(figures, registry, error, reason):
    with suppress(type(error)), figures.request():
        figures.answered(ran(), 0.5)
        raise error
    now = figures.statistics()
    assert (now.fail.count, now.success, now.queue) == (1, Duration(), Duration())
    shown = {
        why: registry.get_sample_value("nv_inference_request_failure", {**LABELS, "reason": why})
        for why in ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    }
    assert shown == {why: float(why == reason) for why in shown}


def test_batches_are_told_apart_by_their_rows_and_by_why_they_went(figures, registry):
    for rows, reason in ((1, "idle"), (4, "full"), (4, "delay"), (300, "preferred")):
        figures.batch(ran(rows, rows, reason=reason))
    now = figures.statistics()
    assert [(batch.rows, batch.compute_infer.count) for batch in now.batches] == [(1, 1), (4, 2), (300, 1)]
    assert now.inferences == 309
    assert now.executions == 4
    went = registry.get_sample_value("tiation_inference_dispatches_total", {**LABELS, "reason": "delay"})
    assert went == 1
    buckets = {
        end: registry.get_sample_value("tiation_inference_batch_rows_bucket", {**LABELS, "le": end})
        for end in ("1.0", "2.0", "4.0", "256.0", "+Inf")
    }
    assert buckets == {"1.0": 1, "2.0": 1, "4.0": 3, "256.0": 3, "+Inf": 4}


def test_sizes_of_batches_that_somebody_makes_up_do_not_fill_the_memory(figures):
    for rows in range(1, 5000):
        figures.batch(ran(1, rows))
    now = figures.statistics()
    assert len(now.batches) <= 1024 + 64
    assert sum(batch.compute_infer.count for batch in now.batches) == 4999


def test_the_cache_counts_hits_and_misses_with_their_times(figures, registry):
    figures.cache_hit(0.001)
    figures.cache_miss(0.002)
    figures.cache_miss(0.002)
    assert figures.statistics().cache_miss == Duration(2, 4_000_000)
    assert registry.get_sample_value("nv_cache_num_hits_per_model", LABELS) == 1
    assert registry.get_sample_value("nv_cache_num_misses_per_model", LABELS) == 2
    assert registry.get_sample_value("nv_cache_hit_duration_per_model", LABELS) == pytest.approx(1000)
    assert registry.get_sample_value("nv_cache_miss_duration_per_model", LABELS) == pytest.approx(4000)


def test_a_request_whose_answer_was_kept_was_answered_and_not_computed(figures):
    with figures.request():
        figures.cache_hit(0.001)
    now = figures.statistics()
    assert (now.success.count, now.queue.count, now.cache_hit.count) == (1, 1, 1)
    assert now.compute_input.count == now.compute_infer.count == now.compute_output.count == 0


@pytest.mark.parametrize(
    ("spans", "waited_s"),
    [
        ([(0, 2, 3)], 2),
        ([(0, 2, 3), (3, 7, 8)], 6),
        ([(0, 2, 3), (0, 3, 4), (0, 4, 9)], 2),
        ([(0, 2, 3), (0, 5, 6), (3, 6, 7)], 4),
        ([(0, 2, 6), (0, 3, 4), (4, 5, 8)], 2),
        ([(0, 0, 1)] * 3, 0),
        ([], 0),
    ],
    ids=["one", "one after the other", "behind each other", "others between", "side by side", "at once", "none"],
)
def test_pieces_of_a_request_wait_while_none_of_them_is_computed(figures, spans, waited_s):
    with figures.request() as times:
        for since, began, ended in spans:
            figures.answered(Ran(1, 1, began, ended), began - since)
    assert times.queue_s == waited_s
    assert figures.statistics().queue == Duration(1, waited_s * 10**9)


async def test_a_request_in_pieces_has_the_times_of_all_its_runs(figures):
    def run(items):
        time.sleep(0.01)
        return items

    made = Batcher(run, name="m", policy=BatchPolicy(1, 16), observer=figures)
    began = time.perf_counter()
    with figures.request() as times:
        await in_turn([1, 2, 3], lambda item: made.submit(item, rows=1))
    took_s = time.perf_counter() - began
    await asyncio.to_thread(made.close)
    assert times.infer_s >= 0.03
    assert times.queue_s + times.infer_s <= took_s
    assert times.batch_rows == 1
    now = figures.statistics()
    assert (now.success.count, now.executions, now.queue.count) == (1, 3, 1)
    assert now.compute_infer.ns == round(times.infer_s * 1e9)


async def test_times_of_requests_at_once_do_not_mix(figures):
    async def ask(waited_s):
        with figures.request() as times:
            await asyncio.sleep(0.01)
            figures.answered(ran(), waited_s)
            await asyncio.sleep(0.01)
            return times.queue_s

    assert await asyncio.gather(*(ask(float(n)) for n in range(5))) == [0, 1, 2, 3, 4]


async def test_the_oldest_wait_is_shown_and_holds_no_queue_in_memory(figures, registry):
    name = "tiation_inference_oldest_wait_seconds"
    made = Batcher(lambda items: (time.sleep(0.2), items)[1], name="m", policy=BatchPolicy(1, 8), observer=figures)
    asked = [asyncio.create_task(made.submit(n, rows=1)) for n in range(2)]
    await asyncio.sleep(0.1)
    assert 0.05 < registry.get_sample_value(name, LABELS) < 5
    await asyncio.gather(*asked)
    await asyncio.to_thread(made.close)
    del made, asked
    gc.collect()
    assert registry.get_sample_value(name, LABELS) == 0


def test_what_was_counted_stays_when_a_version_comes_back_and_is_not_shown_before_it_was_there(metrics, registry):
    refused = metrics.of("tenants/t/models/refused", 1)
    assert "refused" not in generate_latest(registry).decode()
    refused.watch(lambda: 3)
    with refused.request():
        pass
    refused.forget()
    again = metrics.of("tenants/t/models/refused", 1)
    assert again.statistics().success.count == 1
    assert registry.get_sample_value(
        "nv_inference_pending_request_count", {"model": "tenants/t/models/refused", "version": "1"}
    ) == 0  # fmt: skip


def test_figures_of_versions_without_end_do_not_fill_the_memory(metrics, figures):
    for version in range(2, 6000):
        metrics.of(MODEL, version)
    assert len(metrics._figures) <= 4097
    assert metrics.of(MODEL, 1) is figures


def test_both_formats_of_prometheus_take_the_figures_under_their_exact_names(figures, registry):
    with figures.request():
        figures.batch(ran())
    plain = generate_latest(registry).decode()
    assert f'nv_inference_exec_count{{model="{MODEL}",version="1"}} 1.0\n' in plain
    families = {family.name for family in text_string_to_metric_families(generate_openmetrics(registry).decode())}
    assert {"nv_inference_count", "nv_inference_request_success", "tiation_inference_batch_rows"} <= families
    assert registry.get_sample_value("nv_cpu_memory_total_bytes") > registry.get_sample_value(
        "nv_cpu_memory_used_bytes"
    ) > 0  # fmt: skip
    assert 0 <= registry.get_sample_value("nv_cpu_utilization") <= 1


def test_a_requests_figures_cost_microseconds(figures):
    one = ran()
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(2000):
            with figures.request():
                figures.batch(one)
                figures.answered(one, 0.0)
        best = min(best, (time.perf_counter() - began) / 2000)
    assert best < 50e-6  # measured: 4; a machine that runs all tests at once takes longer
