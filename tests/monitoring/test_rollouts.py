"""Recorded rollouts as the API gives them: steps, pages of a step, one prompt over time, runs of a million steps."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fastapi.testclient import TestClient

from finery.api.app import create_app
from finery.core import rollouts as index_of
from finery.core.db import Database
from finery.core.settings import Settings
from finery.jobs.tables import Attempt
from finery.monitoring import rollouts
from tests.core.test_rollouts import record, write
from tests.jobs.test_service import begin, submit


class Api:
    """A job with one attempt, and its routes."""

    def __init__(self, db: Database, settings: Settings, folder: Path):
        self.db = db
        self.folder = folder
        submit(db)
        self.job, _ = begin(db, folder)
        with db.session() as session:
            [row] = session.query(Attempt).all()
            self.samples = self._made(Path(row.run_dir))
        self._http = TestClient(create_app(settings, db=db), base_url="http://127.0.0.1:8321")
        self._headers = {"Authorization": f"Bearer {settings.token_file.read_text()}"}

    def _made(self, run_dir: Path) -> Path:
        samples = run_dir / "samples"
        samples.mkdir(parents=True, exist_ok=True)
        return samples

    def attempt(self, number: int, resumed_from: int | None) -> Path:
        path = self.folder / f"later-{number}"
        with self.db.session() as session:
            first = session.query(Attempt).filter_by(number=1).one()
            ref = None if resumed_from is None else f"job:{self.job}/step:{resumed_from}"
            same = {"run_spec": first.run_spec, "host": "h", "worker": "w", "job_id": self.job}
            session.add(Attempt(number=number, run_dir=str(path), resumed_from=ref, **same))
        return self._made(path)

    def get(self, what: str = "", status: int = 200, **query: Any) -> Any:
        response = self._http.get(f"/api/jobs/{self.job}/rollouts{what}", params=query, headers=self._headers)
        assert response.status_code == status, response.text
        return response.json()


@pytest.fixture
def api(db: Database, settings: Settings, tmp_path: Path) -> Api:
    return Api(db, settings, tmp_path / "runs")


def group(step: int, prompt: str, number: int, rewards: list[float | None], **more: Any) -> list[dict[str, Any]]:
    return [
        record(
            step, prompt, f"{prompt} {at}", group=number, row=number, reward=reward, rewards={"exact": reward}, **more
        )
        for at, reward in enumerate(rewards)
    ]


def step_of(step: int) -> list[dict[str, Any]]:
    return [*group(step, "1+1=", 0, [0.0, 1.0], length=4), *group(step, f"{step}+0=", 1, [0.5, None], length=8)]


def test_before_the_first_rollout_there_is_nothing(api: Api) -> None:
    steps = api.get("/steps")
    assert (steps["first_steps"], steps["num_steps"], steps["first_step"]) == ([], 0, None)
    assert (api.get()["step"], api.get()["rollouts"]) == (None, [])
    assert api.get(step=3, status=200)["step"] is None
    assert "no rollouts of step 3 were recorded" in api.get("/one", 404, step=3, index=0)["message"]
    assert "was recorded" in api.get("/prompt", 404, key="0" * 16)["message"]
    assert {one["verdict"] for one in api.get("/detectors")["detectors"]} == {"too_little"}


def test_steps_and_the_newest_of_them(api: Api) -> None:
    write(api.samples, [step_of(step) for step in (2, 4, 6)])

    steps = api.get("/steps")
    found = api.get()

    assert steps["first_steps"] == steps["last_steps"] == [2, 4, 6]
    assert steps["reward"] == [0.5] * 3  # two prompts; a completion without a reward is in no mean of its group
    assert steps["tokens"] == [6] * 3
    assert (steps["num_steps"], steps["num_rollouts"], steps["first_step"], steps["last_step"]) == (3, 12, 2, 6)
    assert (found["step"], found["attempt"], found["previous_step"], found["next_step"]) == (6, 1, 4, None)
    assert [one["prompt"] for one in found["groups"]] == ["1+1=", "6+0="]
    assert [(one["index"], one["group"], one["reward"]) for one in found["rollouts"]] == [
        (0, 0, 0.0),
        (1, 0, 1.0),
        (2, 1, 0.5),
        (3, 1, None),
    ]
    assert found["parts"] == ["exact"]
    assert (found["num_rollouts"], found["num_matching"], found["num_unreadable"], found["num_left_out"]) == (
        4,
        4,
        0,
        0,
    )
    middle = api.get(step=4)
    assert (middle["previous_step"], middle["next_step"]) == (2, 6)
    assert "; there are some of step 2" in api.get(step=1, status=404)["message"]
    assert api.get("/steps", from_step=3, to_step=4)["first_steps"] == [4]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"min_reward": 0.5}, [1, 2]),
        ({"max_reward": 0.5}, [0, 2]),
        ({"part": "exact", "min_reward": 0.6}, [1]),
        ({"part": "other", "min_reward": 0}, []),
        ({"text": "6+0= 1"}, [3]),
        ({"text": "1+1="}, [0, 1]),
        ({"min_length": 5}, [2, 3]),
        ({"max_length": 4, "max_reward": 0}, [0]),
        ({"is_truncated": True}, []),
        ({"is_truncated": False}, [0, 1, 2, 3]),
        ({"sort": "reward", "is_descending": True}, [1, 2, 0, 3]),
        ({"sort": "reward"}, [0, 2, 1, 3]),
        ({"sort": "length", "is_descending": True}, [2, 3, 0, 1]),
        ({"is_descending": True}, [3, 2, 1, 0]),
        ({"offset": 1, "limit": 2}, [1, 2]),
    ],
)
def test_completions_are_filtered_sorted_and_paged(api: Api, query: dict[str, Any], expected: list[int]) -> None:
    write(api.samples, [step_of(6)])

    assert [one["index"] for one in api.get(**query)["rollouts"]] == expected


@pytest.mark.parametrize("query", [{"min_reward": "nan"}, {"sort": "x"}, {"limit": 0}, {"step": -1}])
def test_what_means_nothing_is_refused(api: Api, query: dict[str, Any]) -> None:
    api.get(status=422, **query)


def test_one_completion_with_its_tokens_and_one_of_an_older_version(api: Api) -> None:
    own = {"tokens": ["1", "<eos>"], "entropy": [0.5, None], "kl": None, "logprob": [-1.0, 0.0], "weights": {"a": 2.0}}
    write(api.samples, [[record(1, **own), record(1, answer=7)]])

    new, old = (api.get("/one", step=1, index=index) for index in (0, 1))

    assert {name: new[name] for name in own} == own
    assert old["answer"] == "7"
    assert [old[name] for name in (*own, "row", "advantages")] == [None] * 7
    assert "numbered from 0; 2 is not there" in api.get("/one", 404, step=1, index=2)["message"]


def test_a_prompt_over_time(api: Api) -> None:
    write(api.samples, [step_of(step) for step in range(1, 101)])
    key = api.get()["groups"][0]["prompt_key"]

    found = api.get("/prompt", key=key, max_steps=4)

    assert (found["prompt"], found["num_steps"]) == ("1+1=", 100)
    assert [one["step"] for one in found["steps"]] == [1, 34, 67, 100]
    assert [[row["preview"] for row in one["rollouts"]] for one in found["steps"]] == [["1+1= 0", "1+1= 1"]] * 4
    second = api.get("/prompt", key=api.get()["groups"][1]["prompt_key"])["steps"]
    assert [(one["step"], [row["index"] for row in one["rollouts"]]) for one in second] == [(100, [2, 3])]


def test_a_resumed_run_shows_each_step_once(api: Api) -> None:
    write(api.samples, [[record(step, reward=0.0)] for step in range(1, 7)])
    write(api.attempt(2, 4), [[record(step, reward=1.0)] for step in range(5, 9)])

    steps = api.get("/steps")

    assert steps["first_steps"] == list(range(1, 9))
    assert steps["attempts"] == [1] * 4 + [2] * 4
    assert steps["reward"] == [0] * 4 + [1] * 4
    assert (api.get(step=4)["attempt"], api.get(step=5)["attempt"]) == (1, 2)
    assert (api.get(step=5)["previous_step"], api.get(step=4)["next_step"]) == (4, 5)
    assert api.get("/prompt", key=api.get()["groups"][0]["prompt_key"])["num_steps"] == 8
    write(api.attempt(3, None), [[record(1)]])
    assert api.get("/steps")["first_steps"] == [1]


def test_lines_that_are_damaged_are_counted_and_the_others_shown(api: Api) -> None:
    path = write(api.samples, [[*group(1, "a", 0, [0.0, 1.0, 2.0]), *group(1, "b", 1, [3.0])]])
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"x" * (len(lines[1]) - 1) + b"\n"
    lines[2] = orjson.dumps({"step": 1, "reward": [1]}).ljust(len(lines[2]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))

    found = api.get()

    assert [(one["index"], one["reward"]) for one in found["rollouts"]] == [(0, 0.0), (3, 3.0)]
    assert (found["num_unreadable"], found["num_rollouts"]) == (2, 4)
    assert api.get("/one", step=1, index=3)["prompt"] == "b"
    assert "is not there or damaged" in api.get("/one", 404, step=1, index=1)["message"]


def test_a_step_with_more_than_can_be_looked_at_says_how_many_are_left_out(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts, "MAX_READ", 3)
    write(api.samples, [step_of(1)])

    found = api.get()

    assert [one["index"] for one in found["rollouts"]] == [0, 1]
    assert (found["num_rollouts"], found["num_left_out"]) == (4, 2)
    assert api.get("/one", step=1, index=3)["prompt"] == "1+0="


def test_a_million_steps_are_looked_at_in_no_time(api: Api) -> None:
    """Two prompts a step; all lines but those of a few steps are a hole in the file, which would fail to parse."""
    num = 1_000_000
    path = api.samples / index_of.LINES
    lines = b"".join(orjson.dumps(one) + b"\n" for one in group(0, "1+1=", 0, [0.0, 1.0]))
    groups = np.zeros(2 * num, index_of.GROUP)
    groups["step"] = np.repeat(np.arange(1, num + 1), 2)
    groups["length"], groups["num"] = len(lines), 2
    groups["offset"] = np.arange(2 * num) * len(lines)
    groups["prompt"] = np.arange(2 * num) % 5000
    groups["reward"] = np.linspace(0, 1, 2 * num)
    (api.samples / index_of.INDEX).write_bytes(b"FINROLL\x01" + groups.tobytes())
    with open(path, "wb") as file:
        file.truncate(2 * num * len(lines))
        for at in (0, num, 2 * num - 2):
            file.seek(at * len(lines))
            file.write(lines)

    spent = {}
    for name, query in {
        "/steps": {"max_columns": 600},
        "": {"step": num // 2 + 1},
        "/one": {"step": 1, "index": 1},
        "/prompt": {"key": f"{0:016x}"},
        "/detectors": {},
    }.items():
        started = time.perf_counter()
        answer = api.get(name, **query)
        spent[name] = time.perf_counter() - started
        if name == "/steps":
            assert (answer["num_steps"], answer["num_rollouts"], len(answer["reward"])) == (num, 4 * num, 600)
            assert answer["reward"] == sorted(answer["reward"])
        if name == "":
            assert (answer["num_matching"], answer["previous_step"]) == (2, num // 2)
    print(spent)
    assert max(spent.values()) < 2.0, spent
