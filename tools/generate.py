"""Writes gen/ and docs/api/ from proto/: Python stubs, Envoy's descriptor set, the OpenAPI document, the API reference.

It holds no knowledge of a single contract: what an RPC means is read from its descriptor.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

from tools import openapi, reference
from tools.protoc import CompileError, Sources, compile_descriptors, compile_python

__all__ = ["generate", "main"]

ROOT = Path(__file__).resolve().parent.parent
_WRITTEN = ("docs/api", "gen")


def generate(sources: Sources, target: Path) -> None:
    """Write a complete gen/ and docs/api/ into the empty folder `target`.

    Raises:
        CompileError: a .proto file is wrong.
        openapi.ContractError: a contract cannot be said as REST.
    """
    gen, pages = target / "gen", target / "docs" / "api"
    envoy = gen / "envoy" / "descriptors.binpb"
    envoy.parent.mkdir(parents=True)
    compiled = compile_descriptors(sources, envoy, source_info=False)
    compile_python(sources, gen / "python", with_services=_files_with_services(sources, compiled))
    _make_packages(gen / "python")
    with tempfile.TemporaryDirectory() as scratch:
        commented = compile_descriptors(sources, Path(scratch) / "all.binpb", source_info=True)
    document = gen / "openapi" / "tiation.openapi.json"
    document.parent.mkdir()
    document.write_text(openapi.render(commented, sources.own), encoding="utf-8")
    pages.mkdir(parents=True)
    for name, text in reference.render(commented, sources.own).items():
        (pages / name).write_text(text, encoding="utf-8")


def _files_with_services(sources: Sources, compiled: descriptor_pb2.FileDescriptorSet) -> list[str]:
    own = set(sources.own)
    return [file.name for file in compiled.file if file.name in own and file.service]


def _make_packages(python: Path) -> None:
    """Make every folder a package; the top ones say that they are typed."""
    for folder in sorted(path for path in python.rglob("*") if path.is_dir()):
        (folder / "__init__.py").touch()
        if folder.parent == python:
            (folder / "py.typed").touch()


def _files(root: Path) -> dict[str, Path]:
    return {
        path.relative_to(root).as_posix(): path
        for folder in _WRITTEN
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _differences(fresh: Path, committed: Path) -> list[str]:
    """The names, relative to both roots, of files that are missing, left over or different."""
    new, old = _files(fresh), _files(committed)
    return [
        name
        for name in sorted(new.keys() | old.keys())
        if name not in new or name not in old or new[name].read_bytes() != old[name].read_bytes()
    ]


def _apply(fresh: Path, committed: Path, names: list[str]) -> None:
    """Bring `names` up to date; whatever is the same keeps its time stamp."""
    for name in names:
        source, target = fresh / name, committed / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        else:
            target.unlink()


def main(arguments: list[str] | None = None) -> int:
    """Bring gen/ and docs/api/ up to date, or with --check only say what is not. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Write gen/ and docs/api/ from proto/.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if they are out of date")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "fresh"
        try:
            generate(Sources(ROOT), fresh)
        except (CompileError, openapi.ContractError) as error:
            print(f"generate: {error}", file=sys.stderr)
            return 1
        names = _differences(fresh, ROOT)
        if not options.check:
            _apply(fresh, ROOT, names)
    for name in names:
        print(f"{'out of date' if options.check else 'wrote'}: {name}")
    if options.check and names:
        print("generate: gen/ or docs/api/ differs from proto/; run `python tools/generate.py`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
