"""Every operation of the OpenAPI document is asked thousands of odd things: it answers what it declares, never 500."""

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from finery.api.openapi import document
from tests.security.conftest import Live, begin, finish

load_all_checks()
SCHEMA = schemathesis.openapi.from_dict(orjson.loads(document()))
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
"""A failure that is meant is declared (`api.failures.DECLARED`), 503 too; a 500 never is."""


JOBS = ["/api/jobs", "/api/pipelines"]
FEW = settings(
    max_examples=12,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def seeded(live: Live) -> Live:
    """A server that has something to show: a run with every kind of record, a dataset, a secret."""
    job_id, run = begin(live, tags=["seeded"])
    assert job_id == 1
    run.log({"loss": 1.5, "bad": float("nan")}, 1)
    run.samples("rollouts", [{"prompt": "1+1", "completion": "2", "reward": 1.0}], 1)
    run.alert("rule", "something", severity="warning", step=1)
    run.note("a line")
    run.dir.stdout.write_text("output\n")
    finish(live, run)
    live.client.post("/datasets/generate", {"generator": "arithmetic", "name": "sums", "params": {"num_rows": 5}})
    live.client.put("/secrets/STORED", {"value": "x"})
    assert live.client.get("/jobs/1/rollouts")["rollouts"]
    return live


@SCHEMA.exclude(method="POST", path=JOBS).parametrize()
@FEW
def test_every_answer_is_one_that_is_declared(case: schemathesis.Case, seeded: Live) -> None:
    ask(case, seeded)


@SCHEMA.include(method="POST", path=JOBS).parametrize()
@settings(FEW, max_examples=25, phases=[Phase.generate])
def test_jobs_answer_as_declared_too(case: schemathesis.Case, seeded: Live) -> None:
    """Drawn only: to list every field of every algorithm would take two minutes."""
    ask(case, seeded)


def ask(case: schemathesis.Case, server: Live) -> None:
    response = case.call(base_url=server.url, headers=server.authorization, timeout=20)
    case.validate_response(response, checks=CHECKS)
