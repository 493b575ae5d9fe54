"""What may be imported where: checked in processes of their own."""

import subprocess
import sys

BARE = """
import sys
allowed = {"finery", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection", "orjson"}
class Gate:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ImportError(f"{name} is not allowed in a bare environment")
sys.meta_path.insert(0, Gate())
import finery.core.spec, finery.core.events, finery.core.rundir, finery.core.errors, finery.core.checkpoints
import finery.runtime.__main__, finery.runtime.supervisor
import finery.runtime.cluster.__main__, finery.runtime.cluster.keeper
import finery.jobs.specs, finery.training.specs, finery.evaluation.specs, finery.datasets.specs
import finery.models.specs, finery.monitoring.specs, finery.notifying.specs
"""

PLATFORM = """
import sys
import finery.api.app, finery.worker.loop, finery.cli.main
heavy = {"torch", "transformers", "trl", "datasets", "verl", "ray"} & set(sys.modules)
assert not heavy, heavy
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def test_what_crosses_into_engine_environments_needs_pydantic_and_orjson_alone() -> None:
    assert run(BARE) == ""


def test_the_platforms_own_processes_do_not_import_torch() -> None:
    assert run(PLATFORM) == ""
