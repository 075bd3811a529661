"""One process, measured from outside: wall time, peak memory, and when its first row of features is on disk."""

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.002


@dataclass
class Process:
    wall_s: float
    peak_mib: float
    first_row_s: float | None
    stdout: str


def has_row(folder: Path) -> bool:
    return any(file.stat().st_size for file in folder.glob("**/layer_*/*.jsonl"))


def run(command: list[str], environment: dict[str, str], rows: Path | None = None) -> Process:
    """Runs to the end; `rows` is the folder below which `layer_*/*.jsonl` appear. A failure ends the comparison."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=os.environ | environment)
        first_row_s, pid = None, 0
        while rows and first_row_s is None and not pid:
            if has_row(rows):
                first_row_s = time.perf_counter() - start
            else:
                time.sleep(POLL_S)
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if not pid:
            _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            err.seek(0)
            tail = err.read().decode(errors="replace")[-3000:]
            raise SystemExit(f"{' '.join(command)}\nfailed with {process.returncode}:\n{tail}")
        if rows and first_row_s is None and has_row(rows):
            first_row_s = wall_s
        out.seek(0)
        # Linux counts ru_maxrss in KiB.
        return Process(wall_s, usage.ru_maxrss / 1024, first_row_s, out.read().decode())
