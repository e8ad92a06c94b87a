"""Runs `buf lint` over our contracts without asking buf's registry for the third-party ones.

The rules are in buf.yaml; here is only the image that buf reads in place of the source files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

from tools.protoc import CompileError, Sources, compile_descriptors

__all__ = ["main", "mark_imports"]

ROOT = Path(__file__).resolve().parent.parent
_INSTALLED = ROOT / "tools" / "buf" / "node_modules" / "@bufbuild"
# buf.alpha.image.v1: FileDescriptorProto.buf_extension (8042) = {is_import (1): true}, as wire bytes.
_IS_IMPORT = b"\xd2\xf6\x03\x02\x08\x01"


def mark_imports(image: descriptor_pb2.FileDescriptorSet, own: set[str]) -> None:
    """Tell buf which files of `image` are third-party: it does not lint those."""
    for file in image.file:
        if file.name not in own:
            file.MergeFromString(_IS_IMPORT)


def _find_buf() -> str | None:
    """`$BUF`, else the one that `npm ci --prefix tools/buf` installed (Linux only), else the one on the PATH."""
    installed = sorted(_INSTALLED.glob("buf-*/bin/buf"))
    return os.environ.get("BUF") or (str(installed[0]) if installed else shutil.which("buf"))


def main() -> int:
    """Lint proto/ by the rules in buf.yaml. Returns the exit status: 0 clean, 2 no buf, else buf's own."""
    buf = _find_buf()
    if buf is None:
        print(
            "buf_lint: buf is not installed; run `npm ci --prefix tools/buf`, or put buf 1.75 on the PATH",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "image.binpb"
        sources = Sources(ROOT)
        try:
            image = compile_descriptors(sources, target, source_info=True)
        except CompileError as error:
            print(f"buf_lint: {error}", file=sys.stderr)
            return 1
        mark_imports(image, set(sources.own))
        target.write_bytes(image.SerializeToString())
        command = [buf, "lint", str(target), "--config", str(ROOT / "buf.yaml")]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
