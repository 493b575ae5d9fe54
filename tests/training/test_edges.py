"""Inputs at the edge of what can be trained on: handled, or refused in words that say what to do."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from finery.core.errors import FineryError, InvalidSpec
from finery.core.rundir import ResolvedInput
from finery.core.spec import Spec
from finery.models import chat, loading, resolving
from finery.training import rewards
from finery.training import rows as data
from finery.training.scoring import RewardFailed
from tests.training import driver
from tests.training.driver import GRPO_ROWS, PREFERENCE_ROWS, SFT_ROWS, Bench

OPTIM = {"steps": 2, "learning_rate": 1e-3}
SFT = {"algorithm": "sft", "optim": OPTIM, "batch_size": 4}
GROUPS: dict[str, Any] = {
    "optim": OPTIM,
    "prompts_per_step": 2,
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
    "rewards": [{"name": "format", "params": {"pattern": r".*[0-4].*"}}],
}
ALGORITHMS = ("grpo", "dapo", "rloo")
"""One for each trainer; gspo has that of grpo."""
NEVER = [{"name": "format", "params": {"pattern": "this is never said"}}]


def _assert_finite(run_dir: driver.RunDir) -> dict[int, dict[str, float]]:
    steps = driver.metrics(run_dir)
    assert sorted(steps) == [1, 2]
    for step, values in steps.items():
        for name, value in values.items():
            assert isinstance(value, (int, float)), (step, name, value)
            assert math.isfinite(value), (step, name)
    for name, tensor in driver.weights(run_dir, 2).items():
        assert tensor.isfinite().all(), name
    return steps


def _change_tokenizer(bench: Bench, folder: Path, **options: Any) -> None:
    """Have the bench train a copy of its model whose tokenizer is changed."""
    path = loading.materialize(bench.model, driver.MODEL)
    model, tokenizer = loading.load_model(path, dtype="float32"), loading.load_tokenizer(path)
    for name, value in options.items():
        setattr(tokenizer, name, value)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    bench.model = ResolvedInput(kind="folder", path=str(folder), sha256=resolving.folder_sha256(folder))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_equal_rewards_everywhere_leave_the_model_as_it_is(bench: Bench, algorithm: str) -> None:
    run_dir = bench.attempt({**GROUPS, "algorithm": algorithm, "rewards": NEVER}, GRPO_ROWS, checkpoint_interval=1)

    driver.run_here(run_dir)

    steps = _assert_finite(run_dir)
    assert [values["grad_norm"] for values in steps.values()] == [0, 0]
    assert steps[1]["zero_std_fraction"] == 1


@pytest.mark.parametrize("algorithm", ["dapo", "rloo"])
def test_a_data_set_of_one_row_is_visited_again_and_again(bench: Bench, algorithm: str) -> None:
    run_dir = bench.attempt({**GROUPS, "algorithm": algorithm}, GRPO_ROWS[:1])

    driver.run_here(run_dir)

    _assert_finite(run_dir)
    assert {record["prompt"] for record in driver.rollouts(run_dir)} == {GRPO_ROWS[0]["prompt"]}


def test_supervised_training_takes_a_data_set_of_one_row(bench: Bench) -> None:
    run_dir = bench.attempt(SFT, SFT_ROWS[:1])

    driver.run_here(run_dir)

    steps = _assert_finite(run_dir)
    assert steps[2]["loss"] < steps[1]["loss"]


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_completions_that_end_at_once_are_trained_on(bench: Bench, algorithm: str) -> None:
    """Half of the data says nothing, so that about half of the completions are the stop token alone."""
    silent = [{"prompt": row["prompt"], "response": ""} for row in SFT_ROWS]
    sft = {**SFT, "optim": {"steps": 30, "learning_rate": 3e-3}}
    start = bench.attempt(sft, [*silent, *SFT_ROWS], name="start")
    driver.run_here(start)
    run_dir = bench.attempt(
        {**GROUPS, "algorithm": algorithm, "rewards": [{"name": "length", "params": {"min": 1}}]},
        GRPO_ROWS,
        base=driver.checkpoint(start, 30),
    )

    driver.run_here(run_dir)

    _assert_finite(run_dir)
    empty = [record for record in driver.rollouts(run_dir) if record["completion"] == ""]
    assert empty
    assert {(record["length"], record["is_truncated"]) for record in empty} == {(1, False)}


@pytest.mark.parametrize("algorithm", ["sft", "grpo", "rloo"])
def test_padding_may_be_the_token_that_ends_an_answer(bench: Bench, tmp_path: Path, algorithm: str) -> None:
    """The loss is what it is with a token of its own: the stop token carries loss, padding does not."""
    rows = SFT_ROWS if algorithm == "sft" else GRPO_ROWS
    task = SFT if algorithm == "sft" else {**GROUPS, "algorithm": algorithm}
    losses = []
    for name, pad in (("own", "<pad>"), ("shared", "<eos>")):
        _change_tokenizer(bench, tmp_path / f"base-{name}", pad_token=pad)
        assert AutoTokenizer.from_pretrained(bench.model.path).pad_token == pad
        run_dir = bench.attempt(task, rows, name=name)
        driver.run_here(run_dir)
        losses.append([(values["loss"], values["grad_norm"]) for values in _assert_finite(run_dir).values()])

    assert losses[0][0][1] > 0
    assert losses[0] == losses[1]


@pytest.mark.parametrize("algorithm", ["sft", "grpo"])
def test_a_tokenizer_without_a_chat_template_gets_the_plain_one(bench: Bench, tmp_path: Path, algorithm: str) -> None:
    _change_tokenizer(bench, tmp_path / "base", chat_template=None)
    assert AutoTokenizer.from_pretrained(bench.model.path).chat_template is None
    task = SFT if algorithm == "sft" else {**GROUPS, "algorithm": algorithm}
    run_dir = bench.attempt(task, SFT_ROWS if algorithm == "sft" else GRPO_ROWS)

    driver.run_here(run_dir)

    _assert_finite(run_dir)


REWRITING = "{{ messages | length }}{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        (SFT, SFT_ROWS),
        ({"algorithm": "dpo", "optim": OPTIM}, PREFERENCE_ROWS),
        ({"algorithm": "kto", "optim": OPTIM}, PREFERENCE_ROWS),
    ],
    ids=["sft", "dpo", "kto"],
)
def test_a_template_that_rewrites_earlier_turns_is_refused_with_the_row(
    bench: Bench, tmp_path: Path, task: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    _change_tokenizer(bench, tmp_path / "base", chat_template=REWRITING)

    with pytest.raises(InvalidSpec, match=r"row 1 of rows: the chat template changes .* set model.template: chatml"):
        driver.run_here(bench.attempt(task, rows))


STRICT = "{{ raise_exception('no nines') if '9' in messages[0]['content'] }}"


@pytest.mark.parametrize("algorithm", ["sft", "grpo", "ppo"])
def test_a_row_that_the_template_refuses_is_named(bench: Bench, tmp_path: Path, algorithm: str) -> None:
    own = loading.load_tokenizer(loading.materialize(bench.model, driver.MODEL)).chat_template
    _change_tokenizer(bench, tmp_path / "base", chat_template=STRICT + own)
    task, rows = (SFT, SFT_ROWS) if algorithm == "sft" else ({**GROUPS, "algorithm": algorithm}, GRPO_ROWS)
    if algorithm == "ppo":
        task = {key: value for key, value in task.items() if key in ("algorithm", "rewards", "optim", "native")}

    with pytest.raises(
        InvalidSpec, match="row 2 of rows: the model's chat template refuses this conversation: no nines"
    ):
        driver.run_here(bench.attempt(task, rows))


@pytest.mark.parametrize("model", [{}, {"lora": {"rank": 4}}], ids=["full", "lora"])
def test_completions_end_at_each_token_that_the_model_ends_at(
    bench: Bench, tmp_path: Path, model: dict[str, Any]
) -> None:
    """Models of chat have an end of turn besides the end of sequence, which only their generation settings name."""
    _change_tokenizer(bench, tmp_path / "base")
    settings = Path(bench.model.path) / "generation_config.json"
    tokenizer = loading.load_tokenizer(Path(bench.model.path))
    end, seven = tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("7")
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "eos_token_id": [end, seven]}))
    bench.model = bench.model.model_copy(update={"sha256": resolving.folder_sha256(settings.parent)})
    rollout = {"completions_per_prompt": 16, "max_new_tokens": 100}
    run_dir = bench.attempt({**GROUPS, "algorithm": "grpo", "rollout": rollout, "model": model}, GRPO_ROWS)

    driver.run_here(run_dir)

    said = [record["completion"] for record in driver.rollouts(run_dir) if not record["is_truncated"]]
    assert {text.endswith("7") for text in said} == {True, False}
    assert all("7" not in text[:-1] for text in said)
    assert chat.stop_ids(loading.load_tokenizer(driver.checkpoint(run_dir, 2))) == {end, seven}


def test_a_prompt_longer_than_the_limit_keeps_its_end(bench: Bench) -> None:
    rows = [{"prompt": "9" * 200 + "+1=", "answer": "0"}, *GRPO_ROWS]
    task = {**GROUPS, "algorithm": "grpo", "data": {"max_prompt_tokens": 8}}
    run_dir = bench.attempt(task, rows)
    tokenizer = loading.load_tokenizer(loading.materialize(bench.model, driver.MODEL))

    driver.run_here(run_dir)

    _assert_finite(run_dir)
    [cut, *others] = data.prompts(rows, tokenizer, max_tokens=8, ref="rows")
    assert tokenizer.decode(cut) == "9999+1=<assistant>"
    assert others[0] == chat.render_prompt(tokenizer, GRPO_ROWS[0]["prompt"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_reward_that_raises_ends_the_run_with_what_it_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    rewards.registry.all()
    monkeypatch.setattr(rewards.registry, "_entries", dict(rewards.registry._entries))

    @rewards.registry.register("broken", params=Spec)
    def broken(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: Any) -> list[float]:
        """Broken on purpose."""
        raise ZeroDivisionError("nothing to divide by")

    run_dir = bench.attempt({**GROUPS, "algorithm": algorithm, "rewards": [{"name": "broken"}]}, GRPO_ROWS)

    with pytest.raises(RewardFailed, match="broken.*ZeroDivisionError: nothing to divide by"):
        driver.run_here(run_dir)


@pytest.mark.parametrize("rows", [[], [{"prompt": "", "answer": "1"}]])
def test_data_with_nothing_to_ask_is_refused_or_trained_on(bench: Bench, rows: list[dict[str, Any]]) -> None:
    """An empty prompt is still a turn of the chat template; an empty data set is nothing."""
    run_dir = bench.attempt({**GROUPS, "algorithm": "grpo"}, rows)
    if rows:
        driver.run_here(run_dir)
        _assert_finite(run_dir)
        return

    with pytest.raises(FineryError, match="has no rows; training needs at least one"):
        driver.run_here(run_dir)
    assert not json.dumps(driver.events(run_dir, "metrics")).strip("[]")
