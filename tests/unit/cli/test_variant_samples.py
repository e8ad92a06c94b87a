"""`models variant --samples`: what is wrong with a sample is said of its line."""

from __future__ import annotations

import grpc
from tiation.engine.v1 import model_pb2 as pb
from tiation.engine.v1 import model_pb2_grpc

from tests.unit.cli.conftest import refusal, served


class Models(model_pb2_grpc.ModelServiceServicer):
    """An engine that has one fault to find."""

    def __init__(self, field: str) -> None:
        self.field = field
        self.samples: list[str] = []

    def GetModel(self, request, context):
        return pb.Model(name=request.name, serving_version=1)

    def DeriveModelVariant(self, request, context):
        self.samples = list(request.samples)
        said = f"{self.field}: has no `x`"
        status = refusal(grpc.StatusCode.INVALID_ARGUMENT, said, "ELEMENT_INVALID", {self.field: "has no `x`"})
        context.abort_with_status(status)


def test_a_sample_that_does_not_fit_is_named_by_its_line_blank_ones_counted(tiation, home, tmp_path):
    file = tmp_path / "samples.jsonl"
    file.write_text('{"x": 1}\n\n\n{"y": 1}\n')
    command = ("models", "variant", "flowers", "--precision", "int8", "--samples", str(file), "--home", str(home.path))
    engine = Models("samples[1]")
    with served(home, (model_pb2_grpc.add_ModelServiceServicer_to_server, engine)):
        said = tiation(*command)
        assert engine.samples == ['{"x": 1}', '{"y": 1}']
        assert (said.code, f"{file}, line 4: has no `x`" in said.err) == (1, True)
        engine.field = "source"
        assert "source: has no `x`" in tiation(*command).err
