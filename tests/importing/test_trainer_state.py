"""Reading `trainer_state.json` of the Hugging Face Trainer."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from finery.core.errors import InvalidSpec
from finery.importing import trainer_state


def _write(folder: Path, history: list[Any], **fields: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "trainer_state.json"
    file.write_text(json.dumps({"global_step": 20, "max_steps": 20, "log_history": history} | fields))
    return file


def test_each_log_entry_is_a_row_and_epoch_is_a_metric(tmp_path: Path) -> None:
    file = _write(tmp_path / "out", [{"epoch": 0.5, "loss": 2.0, "step": 10}, {"epoch": 1.0, "loss": 1, "step": 20}])

    (run,) = trainer_state.read(file)

    assert run.name == "out"
    assert run.source == f"trainer_state:{file}"
    assert [(row.step, row.time, row.values) for row in run.rows] == [
        (10, None, {"epoch": 0.5, "loss": 2.0}),
        (20, None, {"epoch": 1.0, "loss": 1.0}),
    ]


def test_training_and_evaluation_at_one_step_keep_their_rows_and_order(tmp_path: Path) -> None:
    file = _write(tmp_path, [{"step": 20, "loss": 1.0}, {"step": 20, "eval_loss": 2.0}, {"step": 10, "loss": 3.0}])

    (run,) = trainer_state.read(file)

    assert [(row.step, row.values) for row in run.rows] == [
        (10, {"loss": 3.0}),
        (20, {"loss": 1.0}),
        (20, {"eval_loss": 2.0}),
    ]


def test_a_diverged_loss_stays_nan_and_infinity(tmp_path: Path) -> None:
    file = _write(tmp_path, [{"step": 1, "loss": math.nan, "grad_norm": math.inf, "low": -math.inf}])

    (row,) = trainer_state.read(file)[0].rows

    assert math.isnan(row.values["loss"])
    assert row.values["grad_norm"] == math.inf
    assert row.values["low"] == -math.inf


def test_what_is_not_a_number_is_left_out(tmp_path: Path) -> None:
    file = _write(tmp_path, [{"step": 1, "loss": 1.0, "note": "text", "empty": None, "list": [1]}])

    (row,) = trainer_state.read(file)[0].rows

    assert row.values == {"loss": 1.0}


def test_the_other_fields_are_the_config(tmp_path: Path) -> None:
    file = _write(tmp_path, [], stateful_callbacks={"x": 1}, train_batch_size=8, best_metric=None)

    (run,) = trainer_state.read(file)

    assert run.config == {"global_step": 20, "max_steps": 20, "train_batch_size": 8}
    assert list(run.rows) == []


def test_the_newest_checkpoint_wins_by_step_not_by_name(tmp_path: Path) -> None:
    _write(tmp_path / "out/checkpoint-9", [{"step": 9, "loss": 1.0}])
    _write(tmp_path / "out/checkpoint-100", [{"step": 100, "loss": 0.5}])
    (tmp_path / "out/checkpoint-best").mkdir()

    (run,) = trainer_state.read(tmp_path / "out")

    assert run.name == "out"
    assert [row.step for row in run.rows] == [100]


@pytest.mark.parametrize(("own_step", "expected"), [(30, 30), (10, 20)])
def test_the_state_of_the_folder_wins_unless_a_checkpoint_is_newer(
    tmp_path: Path, own_step: int, expected: int
) -> None:
    _write(tmp_path, [{"step": own_step}], global_step=own_step)
    _write(tmp_path / "checkpoint-20", [{"step": 20}])

    (run,) = trainer_state.read(tmp_path)

    assert [row.step for row in run.rows] == [expected]


def test_a_folder_without_a_state_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"holds no trainer_state.json.*output_dir"):
        trainer_state.read(tmp_path)


def test_a_half_written_file_is_named_with_the_place(tmp_path: Path) -> None:
    file = tmp_path / "trainer_state.json"
    file.write_text('{\n "log_history": [{"step": 1')

    with pytest.raises(InvalidSpec, match=r"trainer_state.json is not JSON at line 2, column \d+"):
        trainer_state.read(file)


@pytest.mark.parametrize("content", ["[]", "{}", '{"log_history": {}}', '{"log_history": [], "global_step": "x"}'])
def test_json_of_another_kind_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "trainer_state.json"
    file.write_text(content)

    with pytest.raises(InvalidSpec, match="expected"):
        trainer_state.read(file)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "trainer_state.json"
    file.write_bytes(b'{"log_history": "\xff\xfe')

    with pytest.raises(InvalidSpec, match="is not text at byte 17"):
        trainer_state.read(file)


@pytest.mark.parametrize("entry", [{"loss": 1.0}, {"step": "1"}, {"step": True}, 7])
def test_an_entry_without_a_step_is_named(tmp_path: Path, entry: Any) -> None:
    file = _write(tmp_path, [{"step": 1}, entry])

    with pytest.raises(InvalidSpec, match=r"log_history\[1\]"):
        trainer_state.read(file)
