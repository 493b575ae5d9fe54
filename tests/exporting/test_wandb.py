"""The exporter `wandb` with the real package: offline whatever the environment says, all of it in its folder."""

import math
import os
import socket
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

from finery.importing import wandb
from tests.conftest import need

EXPORT = """
import math, os, sys
from pathlib import Path
from finery.exporting.exporters import RunFacts, registry
params = registry.params("wandb", {"project": "sums"})
exports = []
for attempt in (1, 2):
    folder = Path(sys.argv[1]) / f"attempt-{attempt}"
    folder.mkdir()
    facts = RunFacts("a run", "41", attempt, {"task": {"lr": 1e-4, "parts": ["a", 1]}, "seed": 7}, ("x", "long" * 20))
    exports.append(registry.get("wandb").target(folder, facts, params))
for step in range(1, 200):
    for number, export in enumerate(exports):
        export.write(step, {"loss": number + 1 / step, "reward/mean": float(step)}, time=1000.0 + step)
exports[0].write(200, {"nan": math.nan, "infinity": -math.inf}, time=1200.0)
for export in exports:
    export.close(is_ok=True)
"""


def test_a_run_is_written_offline_and_reaches_for_no_network(tmp_path: Path) -> None:
    need("wandb", find_spec("wandb") is not None)
    home = tmp_path / "home"
    home.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as trap:
        called: list[object] = []
        threading.Thread(target=lambda: called.append(trap.accept()), daemon=True).start()
        url = f"http://127.0.0.1:{trap.getsockname()[1]}"
        hostile = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), url)
        hostile |= {"WANDB_MODE": "online", "WANDB_BASE_URL": url, "WANDB_API_KEY": "a" * 40, "WANDB_RUN_ID": "other"}
        hostile |= {"NO_PROXY": "", "no_proxy": "", "WANDB_SERVICE": "stale", "HOME": str(home)}
        environment = {**os.environ, **hostile}
        done = subprocess.run(
            [sys.executable, "-c", EXPORT, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert called == []

    [first], [second] = (wandb.read(tmp_path / f"attempt-{attempt}") for attempt in (1, 2))
    assert first.name == "a run"
    assert first.tags == ("x", ("long" * 20)[:64], "job-41")
    assert first.config == {"task": {"lr": 1e-4, "parts": ["a", 1]}, "seed": 7}
    rows = list(first.rows)
    assert [(row.step, row.time) for row in rows] == [(step, 1000.0 + step) for step in range(1, 201)]
    assert rows[9].values == {"loss": 0.1, "reward/mean": 10.0}
    assert rows[-1].values["infinity"] == -math.inf
    assert math.isnan(rows[-1].values["nan"])
    assert [row.values["loss"] for row in second.rows] == [1 + 1 / step for step in range(1, 200)]
    assert list(home.iterdir()) == []


def test_without_the_package_the_error_names_what_installs_it(tmp_path: Path) -> None:
    hidden = """
import sys
sys.modules["wandb"] = None
from pathlib import Path
from finery.core.errors import Unavailable
from finery.exporting.exporters import RunFacts, registry
try:
    registry.get("wandb").target(Path(sys.argv[1]), RunFacts("a", "1", 1, {}, ()), registry.params("wandb", {}))
except Unavailable as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", hidden, str(tmp_path)], capture_output=True, text=True)

    assert "not installed here" in done.stdout
    assert "pip install 'finery[wandb]'" in done.stdout
