"""Stands for a compiler of artifacts in tests: `good` or `bad`, then `-o FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    if sys.argv[1] == "bad":
        raise RuntimeError("it cannot be compiled")
    Path(sys.argv[3]).write_text(sys.argv[1])
