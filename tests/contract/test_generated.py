"""gen/ and docs/api/ are what the tools make of proto/, and gen/ works."""

import shutil
import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2

from tests.contract.conftest import ROOT
from tools import generate
from tools.protoc import CompileError, Sources


def test_gen_and_the_reference_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().out


def test_check_names_what_differs_and_generate_repairs_it(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "proto" / "sample" / "v1"
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "proto" / "tiation", tmp_path / "proto" / "tiation")
    (folder / "one.proto").write_text('syntax = "proto3"; package sample.v1; message One { string a = 1; }')
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    stub = tmp_path / "gen" / "python" / "sample" / "v1" / "one_pb2.py"
    stub.write_text("changed")
    (tmp_path / "gen" / "left_over").touch()
    (tmp_path / "docs" / "api" / "types.md").write_text("changed")
    (tmp_path / "gen" / "python" / "sample" / "py.typed").unlink()
    capsys.readouterr()
    assert generate.main(["--check"]) == 1
    names = ["docs/api/types.md", "gen/left_over", "gen/python/sample/py.typed", "gen/python/sample/v1/one_pb2.py"]
    assert capsys.readouterr().out.splitlines() == [f"out of date: {name}" for name in names]
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert not (tmp_path / "gen" / "left_over").exists()


def test_a_broken_contract_is_refused_and_gen_is_left_alone(tmp_path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    (tmp_path / "proto").mkdir()
    (tmp_path / "proto" / "bad.proto").write_text('syntax = "proto3"; message Bad { Missing a = 1; }')
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main([]) == 1
    assert "Missing" in capfd.readouterr().err
    assert not (tmp_path / "gen").exists()


def test_the_stub_plugin_missing_is_said(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(CompileError, match=r"requirements/dev\.txt"):
        generate.generate(Sources(ROOT), tmp_path / "gen")


def test_envoys_descriptor_set_can_print_error_details_and_carries_no_comments() -> None:
    raw = (ROOT / "gen" / "envoy" / "descriptors.binpb").read_bytes()
    files = {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(raw).file}
    assert {"google/rpc/error_details.proto", "google/api/httpbody.proto", "google/rpc/status.proto"} <= files.keys()
    assert not any(file.HasField("source_code_info") for file in files.values())
    assert all(name in files for file in files.values() for name in file.dependency)


def test_every_generated_module_imports(tmp_path) -> None:
    """In a process of its own: a wrong import must not hide behind what this one has loaded."""
    python = ROOT / "gen" / "python"
    modules = [
        path.relative_to(python).with_suffix("").as_posix().replace("/", ".") for path in python.rglob("*_pb2*.py")
    ]
    code = f"import importlib, sys; sys.path.insert(0, {str(python)!r})\n"
    code += f"for module in {sorted(modules)}: importlib.import_module(module)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
