"""The whole platform in one command: starts it, runs the examples that have an agent, shows what happened, stops it.

Run it with `make demo`. It keeps its state in `.tiation-demo/` beside the Makefile and removes it at the next run.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from examples.driver import DemoPlatform, main  # noqa: E402 -- needs the path above

EXAMPLES = ("support-triage", "digits", "document-intake")


def example(name: str) -> Callable[[DemoPlatform], bool]:
    """The `show` of an example's own demo."""
    spec = importlib.util.spec_from_file_location(f"examples.{name}", HERE / name / "demo.py")
    assert spec is not None  # noqa: S101 -- it is a .py file
    assert spec.loader is not None  # noqa: S101 -- as above
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    show: Callable[[DemoPlatform], bool] = module.show
    return show


if __name__ == "__main__":
    sys.exit(main(__doc__, *map(example, EXAMPLES)))
