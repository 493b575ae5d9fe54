"""What does the thread that watches a run cost? `python benchmarks/resources.py [--seconds 60] [--processes 8]`

The real watch of a supervisor, once for each interval, over a tree of `--processes` processes with 20 threads each (as
many as a child with data loaders has), beside `--others` processes of somebody else. Its processor time is what the
kernel has counted for that one thread. Prints a table and, as its last line, a JSON object; `*_percent` is of the wall
time of one core. The bound asked for is 0.5 %.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from finery.core.rundir import RunDir, RunSpec
from finery.runtime.resources import ResourceWatch

INTERVALS = (10.0, 1.0)
BOUND_PERCENT = 0.5

SLEEPER = """
import sys, threading, time
for _ in range(int(sys.argv[1]) - 1):
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""
TREE = f"""
import subprocess, sys
argv = [sys.executable, "-c", {SLEEPER!r}, "20"]
children = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(int(sys.argv[1]))]
for child in children:
    child.stdout.readline()
print("ready", flush=True)
sys.stdin.read()
"""


def start(program: str, argument: int) -> "subprocess.Popen[bytes]":
    """A process that has said that it is ready; it ends with its input."""
    argv = [sys.executable, "-c", program, str(argument)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def cpu_seconds(thread: threading.Thread) -> float:
    """What the kernel has counted for a thread, to the nanosecond."""
    return int(Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0]) / 1e9


def measure(pid: int, interval: float, seconds: float) -> dict[str, float]:
    """Watch a tree and the watcher."""
    with tempfile.TemporaryDirectory() as folder:
        spec = RunSpec(job_id="1", attempt=1, job={}, inputs={}, seed=1)
        run_dir = RunDir.create(Path(folder) / "attempt-1", spec)
        began = time.monotonic()
        watch = ResourceWatch(run_dir, pid, interval=interval)
        [thread] = [one for one in threading.enumerate() if one.name == "resources"]
        time.sleep(seconds)
        used, wall = cpu_seconds(thread), time.monotonic() - began
        watch.stop()
        samples = len((run_dir.events / "resources.jsonl").read_text().splitlines())
    return {"samples": samples, "percent": 100 * used / wall, "ms_per_sample": 1000 * used / max(1, samples + 1)}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--others", type=int, default=200)
    args = parser.parse_args()
    started = [start(TREE, args.processes), start(TREE, args.others)]
    try:
        result: dict[str, float] = {"processes": args.processes, "others": args.others, "bound_percent": BOUND_PERCENT}
        print(f"{'interval s':>10} {'samples':>8} {'ms/sample':>10} {'% of wall time':>15} {'bound %':>8}")
        for interval in INTERVALS:
            found = measure(started[0].pid, interval, args.seconds)
            print(
                f"{interval:10g} {found['samples']:8} {found['ms_per_sample']:10.2f} {found['percent']:15.3f} "
                f"{BOUND_PERCENT:8}"
            )
            result |= {f"every_{interval:g}s_{name}": value for name, value in found.items()}
    finally:
        for process in started:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
