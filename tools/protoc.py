"""Compiles proto/ and what it imports, with the protoc that grpcio-tools carries.

Where results are written to and what is made of them is decided in `generate.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.rpc import status_pb2
from grpc_tools import protoc  # type: ignore[import-untyped]
from protovalidate._gen.buf.validate import validate_pb

__all__ = ["CompileError", "Sources", "compile_descriptors", "compile_python"]

_VALIDATE = "buf/validate/validate.proto"
# Envoy prints error details and bodies of these types even where no contract of ours imports them.
_ALWAYS_INCLUDED = ("google/api/httpbody.proto", "google/rpc/error_details.proto", "google/rpc/status.proto")


class CompileError(Exception):
    """protoc refused its input; it has already said why on stderr."""


class Sources:
    """The .proto files of one working tree, with every import they need lying ready on disk.

    Third-party files are copied out of the installed packages into `.proto-deps/` under `root`, so that an
    editor finds them too. buf/validate has no text there, only a descriptor; protoc reads it by
    `--descriptor_set_in`.
    """

    def __init__(self, root: Path) -> None:
        self.proto = root / "proto"
        self.deps = root / ".proto-deps"
        self._validate_set = self.deps / "buf-validate.binpb"
        self.own = sorted(path.relative_to(self.proto).as_posix() for path in self.proto.rglob("*.proto"))
        self._collect()

    def _collect(self) -> None:
        common = Path(status_pb2.__file__).parent.parent
        for folder in ("api", "rpc", "longrunning"):
            target = self.deps / "google" / folder
            target.mkdir(parents=True, exist_ok=True)
            for source in sorted((common / folder).glob("*.proto")):
                # The package renames this one file to keep two Python modules apart.
                name = "operations.proto" if source.name == "operations_proto.proto" else source.name
                _write_if_new(target / name, source.read_bytes())
        file = descriptor_pb2.FileDescriptorProto.FromString(validate_pb.desc().proto.to_binary())
        as_set = descriptor_pb2.FileDescriptorSet(file=[file])
        _write_if_new(self._validate_set, as_set.SerializeToString(deterministic=True))

    def arguments(self) -> list[str]:
        """The arguments that let protoc find every file."""
        bundled = str(resources.files("grpc_tools") / "_proto")
        return [
            f"-I{self.proto}",
            f"-I{self.deps}",
            f"-I{bundled}",
            f"--descriptor_set_in={self._validate_set}",
        ]


def compile_descriptors(sources: Sources, target: Path, *, source_info: bool) -> descriptor_pb2.FileDescriptorSet:
    """Write every own file and all its imports as one FileDescriptorSet to `target`, and return it.

    The file on disk is protoc's own output, byte for byte. With `source_info` it holds the comments too.

    Raises:
        CompileError: a .proto file is wrong.
    """
    flags = [f"--descriptor_set_out={target}", "--include_imports"]
    if source_info:
        flags.append("--include_source_info")
    _run([*sources.arguments(), *flags, *sources.own, *_ALWAYS_INCLUDED])
    return descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes())


def compile_python(sources: Sources, target: Path, *, with_services: Iterable[str]) -> None:
    """Write typed Python modules for every own file, gRPC stubs for the files `with_services`, under `target`.

    Raises:
        CompileError: a .proto file is wrong, or the stub plugin is not installed beside this Python.
    """
    target.mkdir(parents=True, exist_ok=True)
    flags = [f"--python_out={target}", f"--pyi_out={target}"]
    _run([*sources.arguments(), *flags, *sources.own, _VALIDATE])
    served = sorted(with_services)
    if served:
        plugin = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
        if not plugin.exists():
            raise CompileError(f"{plugin} is missing: install requirements/dev.txt into this environment")
        stubs = [
            f"--grpc_python_out={target}",
            f"--plugin=protoc-gen-mypy_grpc={plugin}",
            f"--mypy_grpc_out=only_async,quiet:{target}",
        ]
        _run([*sources.arguments(), *stubs, *served])


def _write_if_new(target: Path, content: bytes) -> None:
    """Leave an unchanged file alone, so that two runs at once do not read each other's half-written copies."""
    if not target.exists() or target.read_bytes() != content:
        target.write_bytes(content)


def _run(arguments: Sequence[str]) -> None:
    if protoc.main(["protoc", *arguments]) != 0:
        raise CompileError("protoc refused the contracts; its messages are above")
