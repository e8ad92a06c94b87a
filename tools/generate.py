"""Writes gen/ from proto/: Python stubs, Envoy's descriptor set, the OpenAPI document.

It holds no knowledge of a single contract: what an RPC means is read from its descriptor.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

from tools import openapi
from tools.protoc import CompileError, Sources, compile_descriptors, compile_python

__all__ = ["generate", "main"]

ROOT = Path(__file__).resolve().parent.parent


def generate(sources: Sources, target: Path) -> None:
    """Write a complete gen/ into the empty folder `target`.

    Raises:
        CompileError: a .proto file is wrong.
        openapi.ContractError: a contract cannot be said as REST.
    """
    envoy = target / "envoy" / "descriptors.binpb"
    envoy.parent.mkdir(parents=True)
    compiled = compile_descriptors(sources, envoy, source_info=False)
    compile_python(sources, target / "python", with_services=_files_with_services(sources, compiled))
    _make_packages(target / "python")
    with tempfile.TemporaryDirectory() as scratch:
        commented = compile_descriptors(sources, Path(scratch) / "all.binpb", source_info=True)
    document = target / "openapi" / "tiation.openapi.json"
    document.parent.mkdir()
    document.write_text(openapi.render(commented, sources.own), encoding="utf-8")


def _files_with_services(sources: Sources, compiled: descriptor_pb2.FileDescriptorSet) -> list[str]:
    own = set(sources.own)
    return [file.name for file in compiled.file if file.name in own and file.service]


def _make_packages(python: Path) -> None:
    """Make every folder a package; the top ones say that they are typed."""
    for folder in sorted(path for path in python.rglob("*") if path.is_dir()):
        (folder / "__init__.py").touch()
        if folder.parent == python:
            (folder / "py.typed").touch()


def _files(folder: Path) -> dict[str, Path]:
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _differences(fresh: Path, committed: Path) -> list[str]:
    """The names, relative to gen/, of files that are missing, left over or different."""
    new, old = _files(fresh), _files(committed)
    return [
        name
        for name in sorted(new.keys() | old.keys())
        if name not in new or name not in old or new[name].read_bytes() != old[name].read_bytes()
    ]


def _apply(fresh: Path, committed: Path, names: list[str]) -> None:
    """Bring `names` up to date under gen/; whatever is the same keeps its time stamp."""
    for name in names:
        source, target = fresh / name, committed / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        else:
            target.unlink()


def main(arguments: list[str] | None = None) -> int:
    """Bring gen/ up to date, or with --check only say what is not. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Write gen/ from proto/.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if gen/ is out of date")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "gen"
        try:
            generate(Sources(ROOT), fresh)
        except (CompileError, openapi.ContractError) as error:
            print(f"generate: {error}", file=sys.stderr)
            return 1
        names = _differences(fresh, ROOT / "gen")
        if not options.check:
            _apply(fresh, ROOT / "gen", names)
    for name in names:
        print(f"{'out of date' if options.check else 'wrote'}: gen/{name}")
    if options.check and names:
        print("generate: gen/ differs from proto/; run `python tools/generate.py`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
