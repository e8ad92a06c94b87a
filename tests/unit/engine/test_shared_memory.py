"""System shared memory: each tenant its own regions, within their bounds, however clients treat their objects."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack, suppress
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np
import pytest
from inference import grpc_service_pb2 as pb

from engine.errors import (
    EngineError,
    ParameterError,
    RegionExistsError,
    RegionInvalidError,
    RegionNotFoundError,
    SharedMemoryOffError,
    TensorError,
    TooManyRegionsError,
)
from engine.oip.shared_memory import Region, Regions
from engine.servables import Inference
from engine.servicers.inference import InferenceServicer
from engine.tensor import TensorSpec
from mesh.identity import Caller, set_caller
from tests.unit.engine.test_aside import One


@pytest.fixture
def regions():
    made = Regions("any")
    yield made
    made.close()


@pytest.fixture
def memory():
    made = shared_memory.SharedMemory(f"t.{secrets.token_hex(6)}", create=True, size=4096)
    yield made
    made.close()
    with suppress(FileNotFoundError):
        made.unlink()


def region(memory, name: str = "r", offset: int = 0, size: int = 64) -> Region:
    return Region(name, f"/{memory.name}", offset, size)


def test_a_region_is_read_and_written_where_it_is(regions, memory):
    memory.buf[16:20] = b"abcd"
    regions.register("t", region(memory, offset=16, size=8))
    with regions.using("t", "r") as found:
        assert found.read(1, 2) == b"bc"
        found.write(4, b"wxyz")
        assert found.read(8, 0) == b""
    assert bytes(memory.buf[16:24]) == b"abcdwxyz"
    assert bytes(memory.buf[24:32]) == bytes(8)


@pytest.mark.parametrize(("offset", "size"), [(0, 9), (8, 1), (7, 2), (2**62, 2**62), (-1, 2)])
def test_nothing_outside_a_region_is_reached(regions, memory, offset, size):
    regions.register("t", region(memory, offset=16, size=8))
    with regions.using("t", "r") as found:
        with pytest.raises(RegionInvalidError, match="are not in it"):
            found.read(offset, size)
        if size < 100:
            with pytest.raises(RegionInvalidError, match="are not in it"):
                found.write(offset, bytes(size))
    assert bytes(memory.buf) == bytes(len(memory.buf))


def test_another_tenant_neither_sees_nor_uses_nor_forgets_a_region(regions, memory):
    regions.register("t", region(memory))
    assert regions.status("other", "") == []
    with pytest.raises(RegionNotFoundError, match="is not registered"):
        regions.status("other", "r")
    with pytest.raises(RegionNotFoundError), regions.using("other", "r"):
        pass
    regions.unregister("other", "")
    regions.unregister("other", "r")
    assert [each.name for each in regions.status("t", "")] == ["r"]
    regions.register("other", region(memory, size=8))
    assert regions.status("t", "r")[0].byte_size == 64


def test_of_its_own_a_tenant_reaches_only_objects_with_its_name_in_front(memory):
    regions = Regions("own")
    regions.register("t", region(memory))
    for other in ("other", "", "t.", memory.name[:3]):
        with pytest.raises(RegionInvalidError, match="must begin with the tenant's id and a dot"):
            regions.register(other, region(memory))
    regions.close()


@pytest.mark.parametrize(
    "key",
    ["", "/", "//", ".", "/..", "../etc/passwd", "/../etc/passwd", "/a/b", "a/b", "/a\0b", "/never-was", "x" * 300],
)
def test_a_key_is_one_name_of_an_object_that_is_there(regions, key):
    with pytest.raises(RegionInvalidError, match=r"^key: "):
        regions.register("t", Region("r", key, 0, 8))


def test_links_folders_and_pipes_are_no_objects(tmp_path):
    regions = Regions("any", tmp_path)
    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("link", "is a symbolic link"), ("folder", "no shared"), ("pipe", "no shared memory object")):
        with pytest.raises(RegionInvalidError, match=words):
            regions.register("t", Region("r", f"/{name}", 0, 8))
    regions.register("t", Region("r", "/secret", 0, 8))
    regions.close()


@pytest.mark.parametrize(("offset", "size"), [(0, 4097), (4096, 1), (4000, 97), (2**63, 2**63), (0, 0)])
def test_a_region_that_is_said_to_be_larger_than_its_object_is_refused(regions, memory, offset, size):
    with pytest.raises(RegionInvalidError, match=r"^byte_size: "):
        regions.register("t", region(memory, offset=offset, size=size))
    assert regions.status("t", "") == []


@pytest.mark.parametrize("name", ["", "a/b", ".a", "x" * 129, "a b", "a\n"])
def test_a_regions_name_is_plain(regions, memory, name):
    with pytest.raises(RegionInvalidError, match=r"^name: "):
        regions.register("t", region(memory, name=name))


def test_a_name_is_given_once_and_again_after_it_was_given_up(regions, memory):
    regions.register("t", region(memory))
    with pytest.raises(RegionExistsError, match="unregister it first"):
        regions.register("t", region(memory))
    regions.unregister("t", "r")
    regions.unregister("t", "r")
    regions.register("t", region(memory, size=32))
    assert regions.status("t", "r") == [region(memory, size=32)]


def test_a_client_that_cuts_its_object_short_gets_an_error_and_is_not_lengthened(regions, memory):
    regions.register("t", region(memory, size=4096))
    os.truncate(f"/dev/shm/{memory.name}", 16)
    with regions.using("t", "r") as found:
        for work in (lambda: found.read(0, 64), lambda: found.write(8, bytes(64))):
            with pytest.raises(RegionInvalidError, match="cut short"):
                work()
        assert found.read(0, 16) == bytes(16)
    assert Path(f"/dev/shm/{memory.name}").stat().st_size == 16


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_region_that_is_forgotten_while_it_is_used_is_closed_after_that(regions, memory):
    before = open_files()
    regions.register("t", region(memory))
    with ExitStack() as stack:
        found = stack.enter_context(regions.using("t", "r"))
        stack.enter_context(regions.using("t", "r"))
        regions.unregister("t", "")
        found.write(0, b"after")
        assert found.read(0, 5) == b"after"
        assert open_files() == before + 1
    assert open_files() == before
    with pytest.raises(RegionNotFoundError), regions.using("t", "r"):
        pass


def test_regions_without_end_are_refused(regions, memory):
    before = open_files()
    for at in range(256):
        regions.register("t", region(memory, name=f"r{at}"))
    with pytest.raises(TooManyRegionsError, match="unregister some first"):
        regions.register("t", region(memory, name="one-more"))
    regions.register("other", region(memory))
    regions.unregister("t", "")
    regions.unregister("other", "r")
    assert open_files() == before


def test_an_object_that_is_said_to_be_huge_is_not_copied(regions, tmp_path):
    sparse = Regions("any", tmp_path)
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 2**40)
    sparse.register("t", Region("r", "/sparse", 0, 2**40))
    with sparse.using("t", "r") as found, pytest.raises(RegionInvalidError, match="at most 1073741824"):
        found.read(0, 2**40)
    sparse.close()


def test_where_it_is_switched_off_every_way_in_says_so(memory):
    regions = Regions("off")
    for work in (
        lambda: regions.register("t", region(memory)),
        lambda: regions.unregister("t", ""),
        lambda: regions.status("t", ""),
        lambda: regions.using("t", "r").__enter__(),
    ):
        with pytest.raises(SharedMemoryOffError, match=r"engine\.shared_memory"):
            work()


class Sum:
    """Gives x + y, and how often it was asked."""

    inputs = (TensorSpec("x", "FP32", (-1,)), TensorSpec("y", "FP32", (-1,)))
    outputs = (TensorSpec("sum", "FP32", (-1,)), TensorSpec("text", "BYTES", (-1,)))
    asked = 0

    async def infer(self, tensors, terms=None) -> Inference:
        self.asked += 1
        total = tensors["x"] + tensors["y"]
        texts = np.empty(len(total), object)
        texts[:] = [str(int(value)).encode() for value in total]
        return Inference({"sum": total, "text": texts}, 1)


@pytest.fixture
def model():
    return Sum()


@pytest.fixture
def servicer(regions, model):
    set_caller(Caller("t", "tenants/t/principals/p", "spiffe://tiation.local/svc/gateway"))
    yield InferenceServicer(One(model), None, regions, None)
    set_caller(None)


def placed(parameters, name: str = "r", offset: int = 0, size: int = 8) -> None:
    parameters["shared_memory_region"].string_param = name
    parameters["shared_memory_offset"].int64_param = offset
    parameters["shared_memory_byte_size"].int64_param = size


def asking(shape: int = 2) -> pb.ModelInferRequest:
    """x in shared memory at 0, y in raw contents."""
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[np.array([10, 20], np.float32).tobytes()])
    placed(request.inputs.add(name="x", datatype="FP32", shape=[shape]).parameters)
    request.inputs.add(name="y", datatype="FP32", shape=[2])
    return request


async def test_inputs_and_outputs_go_through_shared_memory_and_raw_contents_side_by_side(servicer, regions, memory):
    memory.buf[:8] = np.array([1, 2], np.float32).tobytes()
    regions.register("t", region(memory))
    request = asking()
    placed(request.outputs.add(name="sum").parameters, offset=16, size=32)
    request.outputs.add(name="text")
    answer = await servicer.ModelInfer(request, None)
    assert np.frombuffer(memory.buf[16:24], np.float32).tolist() == [11, 22]
    assert list(answer.raw_output_contents) == [b"", b"\x02\0\0\0" + b"11" + b"\x02\0\0\0" + b"22"]
    said = dict(answer.outputs[0].parameters.items())
    assert said["shared_memory_region"].string_param == "r"
    assert said["shared_memory_byte_size"].int64_param == 8
    assert not answer.outputs[1].parameters


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda r: placed(r.inputs[0].parameters, size=4), TensorError, "is 8 bytes, 4 were sent"),
        (lambda r: placed(r.inputs[0].parameters, offset=60), RegionInvalidError, "are not in it"),
        (lambda r: placed(r.inputs[0].parameters, name="no"), RegionNotFoundError, "'no' is not registered"),
        (lambda r: r.inputs[0].parameters.pop("shared_memory_byte_size"), ParameterError, "is missing"),
        (lambda r: r.inputs[0].contents.fp32_contents.append(1), TensorError, "has both contents in shared memory"),
        (lambda r: r.raw_input_contents.append(b""), TensorError, "1 inputs beside 1 in shared memory, but 2 raw"),
        (lambda r: setattr(r.inputs[0], "datatype", "INT64"), TensorError, "the model wants FP32"),
        (lambda r: r.inputs[0].parameters["x"], ParameterError, r"inputs\[x\]\.parameters\[x\]: has no value"),
        (
            lambda r: placed(r.outputs.add(name="sum").parameters, offset=16, size=7),
            RegionInvalidError,
            r"outputs\[sum\]: is 8 bytes; its place in shared memory region 'r' has 7",
        ),
        (
            lambda r: placed(r.outputs.add(name="sum").parameters, offset=60, size=8),
            RegionInvalidError,
            "are not in it",
        ),
        (
            lambda r: setattr(r.outputs.add(name="sum").parameters["classification"], "int64_param", -3),
            ParameterError,
            "must be a whole number",
        ),
    ],
)
async def test_what_is_said_wrongly_of_shared_memory_is_one_error_and_nothing_is_written(
    servicer, regions, memory, change, error, words
):
    regions.register("t", region(memory))
    request = asking()
    change(request)
    with pytest.raises(error, match=words):
        await servicer.ModelInfer(request, None)
    assert bytes(memory.buf) == bytes(len(memory.buf))
    before = open_files()
    regions.unregister("t", "")
    assert open_files() == before - 1


async def test_the_rpcs_keep_to_the_callers_tenant(servicer, regions, memory):
    await servicer.SystemSharedMemoryRegister(
        pb.SystemSharedMemoryRegisterRequest(name="r", key=memory.name, offset=8, byte_size=16), None
    )
    status = await servicer.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(), None)
    shown = status.regions["r"]
    assert (shown.name, shown.key, shown.offset, shown.byte_size) == ("r", memory.name, 8, 16)
    set_caller(Caller("other", "tenants/other/principals/p", "spiffe://tiation.local/svc/gateway"))
    assert not (await servicer.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(), None)).regions
    request = asking()
    with pytest.raises(RegionNotFoundError):
        await servicer.ModelInfer(request, None)
    with pytest.raises(EngineError, match="CUDA shared memory is not served"):
        await servicer.CudaSharedMemoryRegister(pb.CudaSharedMemoryRegisterRequest(name="r"), None)
