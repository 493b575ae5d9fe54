"""Gradient statistics as the API gives them: windows at the size of a screen, of what a run stands on."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from fastapi.testclient import TestClient

from finery.api.app import create_app
from finery.core.db import Database
from finery.core.gradients import FIELDS, GROUPS, NUM_OCTAVES, GradientWriter, Layout, TensorEntry
from finery.core.settings import Settings
from finery.jobs.tables import Attempt
from finery.monitoring import gradients
from finery.monitoring.specs import GradientBy, GradientMetric, GradientSeries, GradientWindow
from tests.jobs.test_service import begin, submit

NAMES = ("embed", "layers.0.q", "layers.0.up", "layers.1.q", "layers.1.up")
GROUP_OF = {"embed": "embedding", "q": "attention", "up": "ffn"}


def _layout(names: tuple[str, ...] = NAMES) -> Layout:
    entries = [
        TensorEntry(
            name=name,
            layer=name.split(".")[1] if "." in name else name,
            group=GROUP_OF[name.split(".")[-1]],
            num_values=9,
        )
        for name in names
    ]
    return Layout(tensors=tuple(entries))


def _write(run_dir: Path, steps: dict[int, float], *, names: tuple[str, ...] = NAMES, **fields: Any) -> None:
    """Records whose norms are the given value plus the number of the column; other fields as told, or NaN."""
    layout = _layout(names)
    run_dir.mkdir(parents=True, exist_ok=True)
    for step, value in steps.items():
        values = np.full((len(FIELDS), layout.num_columns), np.nan, dtype=np.float32)
        values[FIELDS.index("norm")] = value + np.arange(layout.num_columns)
        for field, number in fields.items():
            values[FIELDS.index(field)] = number(step) if callable(number) else number
        histograms = np.zeros((len(names), 2, NUM_OCTAVES), dtype=np.uint32)
        histograms[:, 0, 120], histograms[:, 1, 123] = step, np.arange(len(names))
        GradientWriter(run_dir / "gradients", layout).append(step, 1.0, values, histograms)


class Api:
    """A job with one attempt, and its routes."""

    def __init__(self, db: Database, settings: Settings, folder: Path):
        self.db = db
        self.folder = folder
        submit(db)
        self.job, _ = begin(db, folder)
        with db.session() as session:
            [row] = session.query(Attempt).all()
            self.run_dir = Path(row.run_dir)
        self._http = TestClient(create_app(settings, db=db), base_url="http://127.0.0.1:8321")
        self._headers = {"Authorization": f"Bearer {settings.token_file.read_text()}"}

    def attempt(self, number: int, resumed_from: int | None) -> Path:
        path = self.folder / f"later-{number}"
        with self.db.session() as session:
            first = session.query(Attempt).filter_by(number=1).one()
            ref = None if resumed_from is None else f"job:{self.job}/step:{resumed_from}"
            same = {"run_spec": first.run_spec, "host": "h", "worker": "w", "job_id": self.job}
            session.add(Attempt(number=number, run_dir=str(path), resumed_from=ref, **same))
        return path

    def get(self, what: str = "", status: int = 200, **query: Any) -> Any:
        response = self._http.get(f"/api/jobs/{self.job}/gradients{what}", params=query, headers=self._headers)
        assert response.status_code == status, response.text
        return response.json()


@pytest.fixture
def api(db: Database, settings: Settings, tmp_path: Path) -> Api:
    return Api(db, settings, tmp_path / "runs")


def test_every_field_of_the_file_has_a_name_outside_and_a_way_to_be_combined() -> None:
    assert set(get_args(GradientMetric)) == {*FIELDS, "variance"} == set(gradients.COMBINATIONS)
    assert set(get_args(GradientBy)) == {"layer", "tensor", "group"}


def test_before_the_first_probe_there_is_nothing(api: Api) -> None:
    found = api.get()

    assert (found["rows"], found["columns"], found["values"]) == ([], [], [])
    assert (found["first_step"], found["last_step"], found["num_steps"]) == (None, None, 0)
    assert "no step has been probed yet" in api.get("/series", 404, name="0")["message"]
    assert "no step has been probed yet" in api.get("/histogram", 404, name="0", step=1)["message"]


def test_layers_tensors_and_groups_by_steps(api: Api) -> None:
    _write(api.run_dir, {1: 10.0, 100: 20.0})

    layers, groups, tensors = (api.get(by=by) for by in ("layer", "group", "tensor"))

    assert [row["first"] for row in layers["rows"]] == ["embed", "0", "1"]
    assert layers["values"] == [[15, 25], [16, 26], [17, 27]]
    assert layers["columns"] == [{"first_step": step, "last_step": step, "attempt": 1} for step in (1, 100)]
    assert [row["first"] for row in groups["rows"]] == [*(name for name in GROUPS if name in GROUP_OF.values()), "all"]
    assert [row["last"] for row in tensors["rows"]] == list(NAMES)
    assert [layers[name] for name in ("first_step", "last_step", "num_steps", "combination")] == [1, 100, 2, "max"]
    GradientWindow.model_validate(layers)


def test_a_window_is_cut_out_before_it_is_made_to_fit(api: Api) -> None:
    _write(api.run_dir, {step: float(step % 7) for step in range(1, 101)})

    whole = api.get(max_columns=10, max_rows=2)
    part = api.get(max_columns=10, from_step=41, to_step=45)

    assert [(column["first_step"], column["last_step"]) for column in whole["columns"]][:2] == [(1, 10), (11, 20)]
    assert whole["values"][0] == [5 + 6] * 10
    assert [(row["first"], row["last"], row["num"]) for row in whole["rows"]] == [("embed", "embed", 1), ("0", "1", 2)]
    assert whole["values"][1] == [7 + 6] * 10
    assert whole["num_steps"] == 100
    assert [column["first_step"] for column in part["columns"]] == [41, 42, 43, 44, 45]
    assert part["values"][0] == [5 + step % 7 for step in range(41, 46)]
    assert (part["first_step"], part["last_step"], part["num_steps"]) == (1, 100, 5)


def test_what_stands_for_several_steps_hides_neither_extreme_and_no_gap_hides_it(api: Api) -> None:
    rises = {"min": lambda step: -step, "mean": lambda step: -9.0 if step == 2 else step, "std": lambda step: step}
    _write(api.run_dir, dict.fromkeys(range(1, 9), 0.0), p99=lambda step: np.nan if step % 2 else step, **rises)

    def shown(metric: str) -> Any:
        return api.get(metric=metric, max_columns=2)["values"][0]

    assert shown("min") == [-4, -8]
    assert shown("mean") == [-9, 8]
    assert shown("variance") == [16, 64]
    assert shown("p99") == [4, 8]
    assert shown("weight_norm") == [None, None]


def test_infinity_is_nothing_that_json_could_not_carry(api: Api) -> None:
    _write(api.run_dir, {1: 0.0}, weight_update_ratio=np.inf)

    assert api.get(metric="weight_update_ratio")["values"][0] == [None]


def test_steps_that_a_later_attempt_did_again_count_once(api: Api) -> None:
    _write(api.run_dir, {1: 0.0, 10: 1.0, 20: 2.0, 30: 3.0})
    _write(api.attempt(2, 10), {20: 200.0, 30: 300.0, 40: 400.0})
    _write(api.attempt(3, 20), {30: 3000.0})

    found = api.get()

    assert [(c["first_step"], c["attempt"]) for c in found["columns"]] == [(1, 1), (10, 1), (20, 2), (30, 3)]
    assert found["values"][0] == [5, 6, 205, 3005]
    series = api.get("/series", name="1")
    assert series["values"]["norm"] == [7, 8, 207, 3007]
    GradientSeries.model_validate(series)
    assert api.get("/histogram", name="1", step=20)["attempt"] == 2


def test_a_retry_from_nothing_stands_on_itself_alone(api: Api) -> None:
    _write(api.run_dir, {1: 0.0})
    _write(api.attempt(2, None), {1: 50.0})

    assert api.get()["values"][0] == [55]


def test_attempts_with_other_tensors_are_put_side_by_side_by_name(api: Api) -> None:
    _write(api.run_dir, {1: 0.0}, names=("layers.1.q", "layers.0.q"))
    _write(api.attempt(2, 1), {2: 10.0})

    found = api.get(by="tensor")

    assert [row["first"] for row in found["rows"]] == list(NAMES)
    assert found["values"] == [[None, 10], [1, 11], [None, 12], [0, 13], [None, 14]]


def test_histogram_of_a_layer_is_that_of_its_tensors_together(api: Api) -> None:
    _write(api.run_dir, {7: 0.0}, std=2.0)

    found = api.get("/histogram", name="1", step=7)

    assert found["exponents"] == [-7, -6, -5, -4]
    assert found["negative"] == [14, 0, 0, 0]
    assert found["positive"] == [0, 0, 0, 3 + 4]
    assert found["statistics"]["norm"] == 7
    assert found["statistics"]["variance"] == 4
    assert found["statistics"]["mean"] is None
    assert api.get("/histogram", name="all", by="group", step=7)["positive"] == [0, 0, 0, 10]


def test_what_is_not_there_is_said(api: Api) -> None:
    _write(api.run_dir, {1: 0.0, 100: 0.0})

    assert "step 100 is the nearest" in api.get("/histogram", 404, name="0", step=90)["message"]
    assert "there are no gradients of the layer '9'" in api.get("/histogram", 404, name="9", step=1)["message"]
    (api.run_dir / "gradients" / "histograms.bin").unlink()
    assert "lost or damaged" in api.get("/histogram", 404, name="0", step=1)["message"]
    (api.run_dir / "gradients" / "statistics.bin").write_bytes(b"something else entirely")
    assert api.get(status=409)["code"] == "unreadable_gradients"
