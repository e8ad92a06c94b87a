"""`models sign` and `models verify`, as they are called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def command(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "models", *map(str, arguments)], capture_output=True, text=True, check=check
    )


def test_a_folder_is_signed_with_openssls_keys_and_verified(tmp_path):
    folder, key, public = tmp_path / "m", tmp_path / "key.pem", tmp_path / "key.pub.pem"
    folder.mkdir()
    (folder / "model.yaml").write_text("name: m\nkind: onnx\n")
    (folder / "model.onnx").write_bytes(b"some")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    assert "2 files" in command("sign", folder, "--key", key).stdout
    assert "as signed with key" in command("verify", folder, "--key", public).stdout
    (folder / "model.onnx").write_bytes(b"same")
    refused = command("verify", folder, "--key", public, check=False)
    assert (refused.returncode, "model.onnx: has other content" in refused.stderr) == (1, True)
    wrong = command("sign", folder, "--key", public, check=False)
    assert "holds no Ed25519 private key" in wrong.stderr
