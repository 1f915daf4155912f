"""A few kills of each kind in the default run; `tests/run --long` has a thousand (tests/kills.py)."""

import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import binary

KILLS = Path(__file__).parents[1] / "kills.py"
WITHIN = 120.0


@pytest.mark.parametrize("proof", ["sqlite", "postgres", "sidecar", "both"])
def test_kill_9_loses_nothing_acknowledged_and_doubles_nothing(proof):
    command = [sys.executable, KILLS, binary(), f"--{proof}", "10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
