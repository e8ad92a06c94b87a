"""Prepares the models that ship with the platform, below `.models`; what is there already is left alone.

How each of them is made lives in `tools.models`; how a folder of models is read lives in `engine.repository`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.models.digits import prepare_digits
from tools.models.docs_writer import prepare_docs_writer
from tools.models.minilm import prepare_minilm
from tools.models.place import ROOT, SetupError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Prepare every model below `--dest`; the exit status is 0 when all are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dest", type=Path, default=ROOT / ".models", help="where models go (default: .models)")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache", help="where downloads stay (default: .cache)")
    options = parser.parse_args(arguments)
    try:
        prepare_minilm(options.dest.resolve(), options.cache.resolve())
        prepare_digits(options.dest.resolve())
        prepare_docs_writer(options.dest.resolve())
    except SetupError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"error: {error.filename or options.dest}: {os.strerror(error.errno or 0)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
