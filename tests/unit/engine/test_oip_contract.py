"""The wire contract against the descriptors of Triton's own client: what both have has the same number and type."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from inference import grpc_service_pb2, model_config_pb2

THEIRS = """
import sys
from tritonclient.grpc import model_config_pb2, service_pb2
from google.protobuf import descriptor_pb2
files = descriptor_pb2.FileDescriptorSet()
for module in (model_config_pb2, service_pb2):
    module.DESCRIPTOR.CopyToProto(files.file.add())
sys.stdout.buffer.write(files.SerializeToString())
"""
OURS_ALONE = {("inference.ModelMetadataResponse", "properties")}
"""Of KServe's contract, which Triton's client does not have."""


@pytest.fixture(scope="module")
def theirs() -> descriptor_pool.DescriptorPool:
    """What the client has, in a pool of its own."""
    ran = subprocess.run([sys.executable, "-c", THEIRS], capture_output=True, timeout=60, check=True)
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(ran.stdout).file:
        pool.Add(file)
    return pool


def messages(descriptors) -> Iterator:
    for descriptor in descriptors:
        if descriptor.full_name == "inference.ModelMetadataResponse.PropertiesEntry":
            continue  # see `OURS_ALONE`
        yield descriptor
        yield from messages(descriptor.nested_types)


def shape(field) -> tuple:
    """What of a field is on the wire."""
    kind = field.message_type or field.enum_type
    oneof = field.containing_oneof.name if field.containing_oneof else ""
    return field.number, field.type, field.is_repeated, kind.full_name if kind else "", oneof


def test_every_rpc_of_the_client_is_there_with_its_messages(theirs):
    ours = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    methods = theirs.FindServiceByName("inference.GRPCInferenceService").methods
    assert len(methods) == 20
    for method in methods:
        mine = ours[method.name]
        assert (mine.input_type.full_name, mine.output_type.full_name) == (
            method.input_type.full_name, method.output_type.full_name
        )  # fmt: skip
        assert (mine.client_streaming, mine.server_streaming) == (method.client_streaming, method.server_streaming)


def test_every_field_has_the_clients_number_and_type(theirs):
    compared = 0
    for file in (grpc_service_pb2, model_config_pb2):
        for message in messages(file.DESCRIPTOR.message_types_by_name.values()):
            other = theirs.FindMessageTypeByName(message.full_name)
            for field in message.fields:
                if (message.full_name, field.name) in OURS_ALONE:
                    continue
                assert shape(field) == shape(other.fields_by_name[field.name]), field.full_name
                compared += 1
    assert compared > 200


def test_of_the_services_own_messages_no_field_is_missing(theirs):
    for message in messages(grpc_service_pb2.DESCRIPTOR.message_types_by_name.values()):
        other = theirs.FindMessageTypeByName(message.full_name)
        assert {field.name for field in other.fields} <= {field.name for field in message.fields}, message.full_name


def test_every_enum_value_has_the_clients_number(theirs):
    for enum in model_config_pb2.DESCRIPTOR.enum_types_by_name.values():
        other = theirs.FindEnumTypeByName(enum.full_name)
        assert {v.name: v.number for v in enum.values} == {v.name: v.number for v in other.values}
