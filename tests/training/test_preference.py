"""Learning from preferences: reward model, DPO, KTO and ORPO.

Each loss is compared with its formula worked from the full logits, which also proves that the columns without a label,
which are not computed, are not missed.
"""

import math
import random
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from finery.core import checkpoints
from finery.core.errors import InvalidSpec
from finery.core.spec import parse
from finery.models import chat, loading
from finery.training.specs import DataSpec, DpoSpec, KtoSpec, OrpoSpec, RewardModelSpec
from finery.training.trl import kto, preference, reward
from tests.training import driver
from tests.training.driver import GRPO_ROWS, PREFERENCE_ROWS, SFT_ROWS, Bench

# A large epsilon keeps AdamW from blowing the rounding of gradients near zero up to whole steps.
OPTIM = {"steps": 4, "learning_rate": 1e-3, "epsilon": 1e-3}
LABELLED = [
    {"prompt": row["prompt"], "completion": row["chosen" if index % 2 else "rejected"], "label": bool(index % 2)}
    for index, row in enumerate(PREFERENCE_ROWS)
]
ROWS = {"reward": PREFERENCE_ROWS, "dpo": PREFERENCE_ROWS, "orpo": PREFERENCE_ROWS, "kto": LABELLED}
LORA = {"lora": {"rank": 4}}
IN_ORDER = {"shuffle": False}


def _task(algorithm: str, **more: Any) -> dict[str, Any]:
    return {"algorithm": algorithm, "optim": OPTIM, "batch_size": 4, **more}


def _parity_pairs(seed: int, num: int) -> list[dict[str, Any]]:
    """Even answers are preferred to odd ones: a rule that a tiny model sees within a minute."""
    stream = random.Random(seed)
    rows = []
    for _ in range(num):
        head, even, odd = stream.choices("0123456789", k=2), stream.choice("02468"), stream.choice("13579")
        rows.append({"prompt": f"{stream.randrange(100)}?", "chosen": head[0] + even, "rejected": head[1] + odd})
    return rows


def _base(bench: Bench) -> tuple[PreTrainedModel, Any]:
    path = loading.materialize(bench.model, driver.MODEL)
    return loading.load_model(path, dtype="float32"), loading.load_tokenizer(path)


def _logp(model: PreTrainedModel, tokenizer: Any, prompt: str, answer: str) -> tuple[float, int]:
    """Log-probability of an answer with its end, from the full logits of the row alone, and its length in tokens."""
    start, completion = chat.render_completion(tokenizer, prompt, answer)
    ids = torch.tensor([start + completion])
    with torch.no_grad():
        logprobs = model(ids).logits[0, :-1].log_softmax(dim=-1)
    found = logprobs.gather(1, ids[0, 1:, None])[len(start) - 1 :]
    return found.sum().item(), len(completion)


@pytest.mark.parametrize("algorithm", ROWS)
@pytest.mark.parametrize("model", [{}, LORA], ids=["full", "lora"])
def test_the_objective_improves(bench: Bench, algorithm: str, model: dict[str, Any]) -> None:
    optim = {"steps": 20, "learning_rate": 3e-3 if model else 1e-3, "warmup_steps": 2}
    run_dir = bench.attempt(_task(algorithm, optim=optim, batch_size=8, model=model), _parity_pairs(1, 200))

    driver.run_here(run_dir)

    steps = driver.metrics(run_dir)
    assert steps[20]["loss"] < steps[1]["loss"] - 0.03
    assert steps[20]["reward_margin"] > steps[1]["reward_margin"] + 0.02
    if algorithm != "kto":
        assert steps[20]["preference_accuracy"] > 0.9


@pytest.mark.parametrize(
    "task",
    [
        _task("reward", center_rewards_coefficient=0.1),
        _task("dpo"),
        _task("dpo", loss_type="ipo"),
        _task("dpo", loss_type="robust", label_smoothing=0.1),
        _task("kto"),
        _task("orpo"),
        _task("orpo", loss_on="all"),
    ],
    ids=lambda task: "-".join(str(task[key]) for key in ("algorithm", "loss_type", "loss_on") if key in task),
)
def test_micro_batches_do_not_change_the_training(bench: Bench, task: dict[str, Any]) -> None:
    rows = [{**row, "label": True} for row in LABELLED] if task["algorithm"] == "kto" else PREFERENCE_ROWS
    runs = [bench.attempt(task, rows, name="whole"), bench.attempt({**task, "micro_batch_size": 2}, rows, name="split")]

    for run_dir in runs:
        driver.run_here(run_dir)

    expected, found = (driver.metrics(run_dir) for run_dir in runs)
    assert sorted(found) == sorted(expected) == [1, 2, 3, 4]
    for step, values in expected.items():
        assert values["grad_norm"] > 0
        for name in ("loss", "grad_norm", *({"kl_divergence"} & values.keys())):
            assert found[step][name] == pytest.approx(values[name], rel=1e-4, abs=1e-6), (step, name)
    if task["algorithm"] == "kto":
        assert expected[4]["kl_divergence"] > 0
    before, after = (driver.weights(run_dir, 4) for run_dir in runs)
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-5)


def _ratios(bench: Bench, run_dir: driver.RunDir, answers: list[tuple[str, str]]) -> torch.Tensor:
    """log(policy after the first step / reference) of each (prompt, answer)."""
    reference, tokenizer = _base(bench)
    policy = loading.load_model(driver.checkpoint(run_dir, 1), dtype="float32")
    return torch.tensor(
        [_logp(policy, tokenizer, *answer)[0] - _logp(reference, tokenizer, *answer)[0] for answer in answers]
    )


@pytest.mark.parametrize("model", [{}, LORA], ids=["full", "lora"])
def test_the_loss_of_dpo_is_that_of_its_paper(bench: Bench, model: dict[str, Any]) -> None:
    rows = PREFERENCE_ROWS[:4]
    run_dir = bench.attempt(_task("dpo", beta=0.3, data=IN_ORDER, model=model), rows, checkpoint_interval=1)

    driver.run_here(run_dir)

    chosen = _ratios(bench, run_dir, [(row["prompt"], row["chosen"]) for row in rows])
    rejected = _ratios(bench, run_dir, [(row["prompt"], row["rejected"]) for row in rows])
    steps = driver.metrics(run_dir)
    assert steps[1]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert steps[2]["loss"] == pytest.approx(-logsigmoid(0.3 * (chosen - rejected)).mean().item(), rel=1e-4)
    assert steps[2]["reward_chosen"] == pytest.approx(0.3 * chosen.mean().item(), rel=1e-3)
    assert steps[2]["loss"] < steps[1]["loss"]


def test_the_loss_of_kto_is_that_of_its_paper_with_a_kl_term_of_the_whole_step(bench: Bench) -> None:
    rows = [{**row, "label": index != 2} for index, row in enumerate(LABELLED[:4])]
    task = _task("kto", beta=0.3, undesirable_weight=2.0, data=IN_ORDER, micro_batch_size=2)
    run_dir = bench.attempt(task, rows, checkpoint_interval=1)

    driver.run_here(run_dir)

    own = _ratios(bench, run_dir, [(row["prompt"], row["completion"]) for row in rows])
    others = [(row["prompt"], rows[index - 1]["completion"]) for index, row in enumerate(rows)]
    kl = _ratios(bench, run_dir, others).mean().clamp(min=0)
    is_good = torch.tensor([row["label"] for row in rows])
    losses = torch.where(is_good, 1 - (0.3 * (own - kl)).sigmoid(), 2 * (1 - (0.3 * (kl - own)).sigmoid()))
    found = driver.metrics(run_dir)[2]
    assert kl > 0
    assert found["kl_divergence"] == pytest.approx(kl.item(), rel=1e-3)
    assert found["loss"] == pytest.approx(losses.mean().item(), rel=1e-4)


@pytest.mark.parametrize(("algorithm", "loss"), [("dpo", math.log(2)), ("kto", 0.5)])
@pytest.mark.parametrize("model", [{}, LORA], ids=["full", "lora"])
def test_the_reference_computes_in_the_numbers_of_the_policy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, algorithm: str, loss: float, model: dict[str, Any]
) -> None:
    """Mixed precision, as on hardware that computes in bfloat16: before the first step both are the same model."""
    plain = loading.resolve_dtype
    monkeypatch.setattr(loading, "resolve_dtype", lambda name: torch.bfloat16 if name == "auto" else plain(name))
    task = _task(algorithm, optim={"steps": 1}, beta=10.0, model=model)
    run_dir = bench.attempt(task, ROWS[algorithm])

    driver.run_here(run_dir)

    [values] = driver.metrics(run_dir).values()
    assert values["loss"] == pytest.approx(loss, abs=1e-6)
    assert values["reward_chosen"] == values["reward_rejected"] == 0


def test_the_weights_of_wpo_are_those_of_its_paper(bench: Bench) -> None:
    """Each pair's loss is weighted by how likely the policy itself is to say its answers (arXiv:2406.11827)."""
    rows = PREFERENCE_ROWS[:4]
    run_dir = bench.attempt(_task("dpo", native={"use_weighting": True}, data=IN_ORDER), rows)
    model, tokenizer = _base(bench)
    weights = []
    for row in rows:
        weight = 0.0
        for key in ("chosen", "rejected"):
            start, completion = chat.render_completion(tokenizer, row["prompt"], row[key])
            ids = torch.tensor([start + completion])
            with torch.no_grad():
                logprobs = model(ids).logits[0, len(start) - 1 : -1].log_softmax(dim=-1)
            own = logprobs.gather(1, ids[0, len(start) :, None])[:, 0]
            weight += (own - logprobs.exp().square().sum(dim=-1).log()).mean().item()
        weights.append(math.exp(weight))

    driver.run_here(run_dir)

    expected = math.log(2) * sum(weights) / len(weights)
    assert driver.metrics(run_dir)[1]["loss"] == pytest.approx(expected, rel=1e-4)


def test_a_reference_that_moves_needs_weights_of_its_own(bench: Bench) -> None:
    with pytest.raises(InvalidSpec, match="native.sync_ref_model needs a reference model of its own"):
        driver.run_here(bench.attempt(_task("dpo", native={"sync_ref_model": True}, model=LORA), PREFERENCE_ROWS))


@pytest.mark.parametrize("loss_on", ["response", "all"])
def test_the_loss_of_orpo_is_that_of_its_paper(bench: Bench, loss_on: str) -> None:
    rows = PREFERENCE_ROWS[:4]
    run_dir = bench.attempt(_task("orpo", beta=0.3, loss_on=loss_on), rows)
    model, tokenizer = _base(bench)
    nll, num_labels, odds = 0.0, 0, []
    for row in rows:
        (chosen, num_chosen), (rejected, num_rejected) = (
            _logp(model, tokenizer, row["prompt"], row[key]) for key in ("chosen", "rejected")
        )
        ids = torch.tensor([sum(chat.render_completion(tokenizer, row["prompt"], row["chosen"]), start=[])])
        whole = model(ids).logits[0, :-1].log_softmax(dim=-1).gather(1, ids[0, 1:, None]).sum().item()
        nll -= chosen if loss_on == "response" else whole
        num_labels += num_chosen if loss_on == "response" else ids.shape[1] - 1
        p, q = torch.tensor(chosen / num_chosen).exp(), torch.tensor(rejected / num_rejected).exp()
        odds.append(((p / (1 - p)) / (q / (1 - q))).log())

    driver.run_here(run_dir)

    expected = nll / num_labels - 0.3 * logsigmoid(torch.stack(odds)).mean().item()
    assert driver.metrics(run_dir)[1]["loss"] == pytest.approx(expected, rel=1e-5)


def _scores(model: PreTrainedModel, tokenizer: Any, answers: list[tuple[str, str]]) -> torch.Tensor:
    """Scores of rows one by one, without padding."""
    rows = [torch.tensor([sum(chat.render_completion(tokenizer, *answer), start=[])]) for answer in answers]
    with torch.no_grad():
        return torch.cat([model(row).logits[:, 0] for row in rows])


@pytest.mark.parametrize("model", [{}, LORA], ids=["full", "lora"])
def test_a_reward_model_is_loaded_again_and_learns_on_with_margins(bench: Bench, model: dict[str, Any]) -> None:
    rows = [{**row, "margin": 0.1 * index} for index, row in enumerate(PREFERENCE_ROWS[:4])]
    first = bench.attempt(_task("reward", model=model), rows, name="first")
    driver.run_here(first)
    folder = driver.checkpoint(first, 4)
    scoring, tokenizer = loading.load_reward_model(folder, dtype="float32"), loading.load_tokenizer(folder)
    chosen = _scores(scoring, tokenizer, [(row["prompt"], row["chosen"]) for row in rows])
    rejected = _scores(scoring, tokenizer, [(row["prompt"], row["rejected"]) for row in rows])
    margins = torch.tensor([row["margin"] for row in rows])
    gentle = _task("reward", center_rewards_coefficient=0.5, model=model, optim={**OPTIM, "learning_rate": 1e-4})
    again = bench.attempt(gentle, rows, name="again", base=folder)

    driver.run_here(again)

    expected = -logsigmoid(chosen - rejected - margins).mean() + 0.5 * ((chosen + rejected) ** 2).mean()
    assert driver.metrics(again)[1]["loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert driver.metrics(again)[4]["loss"] < driver.metrics(again)[1]["loss"]
    manifest = checkpoints.read_manifest(folder)
    assert manifest is not None
    assert manifest.kind == "reward"


def test_a_reward_model_is_no_policy_and_a_policy_no_reward_model(bench: Bench) -> None:
    first = bench.attempt(_task("reward"), PREFERENCE_ROWS, name="first")
    driver.run_here(first)
    base = driver.checkpoint(first, 4)

    with pytest.raises(InvalidSpec, match="is a reward model, which scores answers and writes none"):
        driver.run_here(bench.attempt(_task("sft"), SFT_ROWS, name="sft", base=base))
    with pytest.raises(InvalidSpec, match="is a language model, which has no head that scores"):
        loading.load_reward_model(loading.materialize(bench.model, driver.MODEL))


def _with_pad_as_end(bench: Bench, folder: Path) -> Path:
    """The tiny model, whose padding is the end of sequence, as a checkpoint."""
    model, tokenizer = _base(bench)
    tokenizer.pad_token = tokenizer.eos_token
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    checkpoints.seal(folder, engine="trl", format="hf-trainer", step=0, attempt=1, world_size=1, now=0.0)
    return folder


@pytest.mark.parametrize("algorithm", ["dpo", "kto", "orpo"])
def test_padding_that_is_the_end_of_sequence_changes_nothing(bench: Bench, tmp_path: Path, algorithm: str) -> None:
    base = _with_pad_as_end(bench, tmp_path / "base")
    runs = [
        bench.attempt(_task(algorithm), ROWS[algorithm], name="own"),
        bench.attempt(_task(algorithm), ROWS[algorithm], name="shared", base=base),
    ]

    for run_dir in runs:
        driver.run_here(run_dir)

    own, shared = (driver.metrics(run_dir) for run_dir in runs)
    for step, values in own.items():
        assert shared[step] == pytest.approx(values, rel=1e-3, abs=1e-5), step


@pytest.mark.parametrize(
    ("lengths", "cut"),
    [
        ([7], None),
        ([5, 5, 5], None),
        ([10, 9, 9], None),
        ([10, 2], 1),
        ([20, 18, 3, 2], 2),
        ([30, 5, 5, 5, 5], 1),
    ],
)
def test_rows_are_cut_where_least_is_padded(lengths: list[int], cut: int | None) -> None:
    assert reward.best_cut(lengths) == cut


def test_long_and_short_rows_train_as_in_one_pass(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": "1+1=", "chosen": "2", "rejected": "3" * length} for length in (1, 40, 3, 60)]
    task = _task("reward", center_rewards_coefficient=0.1)
    cut, whole = (bench.attempt(task, rows, name=name) for name in ("cut", "whole"))

    driver.run_here(cut)
    monkeypatch.setattr(reward, "best_cut", lambda lengths: None)
    driver.run_here(whole)

    expected = driver.metrics(whole)
    for step, values in driver.metrics(cut).items():
        assert values == pytest.approx(expected[step], rel=1e-3, abs=1e-5), step


def test_a_score_does_not_depend_on_padding_that_is_the_end_of_sequence(bench: Bench, tmp_path: Path) -> None:
    base = _with_pad_as_end(bench, tmp_path / "base")
    run_dir = bench.attempt(_task("reward"), PREFERENCE_ROWS, base=base)
    driver.run_here(run_dir)
    folder = driver.checkpoint(run_dir, 4)
    model, tokenizer = loading.load_reward_model(folder, dtype="float32"), loading.load_tokenizer(folder)
    answers = [("1+1=", "2"), ("20+80=", "1000")]
    rows = [sum(chat.render_completion(tokenizer, *answer), start=[]) for answer in answers]
    batch = preference.sequences(rows, [[], []], tokenizer.pad_token_id)

    with torch.no_grad():
        padded = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]

    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    torch.testing.assert_close(padded, _scores(model, tokenizer, answers), rtol=1e-4, atol=1e-5)
    assert padded[0] != padded[1]


def test_the_labelled_columns_are_what_the_fused_head_of_trl_gives(bench: Bench) -> None:
    model, tokenizer = _base(bench)
    batch = preference.sequences([[7, 8, 9], [10]], [[11, 12], [13, 14, 15]], tokenizer.pad_token_id)
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    call = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}
    plain = model(input_ids=batch["input_ids"]).logits
    fields = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
    add_fused_lm_head(model, outputs=fields)
    expected = model(**call, fused_lm_head=True)

    preference.score_labels_only(model, with_squares=True)

    found = model(**call, fused_lm_head=True)
    for name in fields:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(input_ids=batch["input_ids"]).logits, plain)


@pytest.mark.parametrize("algorithm", ROWS)
def test_other_data_is_refused_with_what_is_needed(bench: Bench, algorithm: str) -> None:
    needed = "unpaired, with prompt, completion, label" if algorithm == "kto" else "preference, with prompt, chosen"

    with pytest.raises(InvalidSpec, match=rf"row 1 of rows has no '(chosen|completion)'; .* format {needed}"):
        driver.run_here(bench.attempt(_task(algorithm), GRPO_ROWS))


@pytest.mark.parametrize(
    "task", [_task(name) for name in ("reward", "dpo", "orpo")], ids=lambda task: task["algorithm"]
)
def test_one_row_is_trained_on(bench: Bench, task: dict[str, Any]) -> None:
    run_dir = bench.attempt(task, PREFERENCE_ROWS[:1])

    driver.run_here(run_dir)

    steps = driver.metrics(run_dir)
    assert sorted(steps) == [1, 2, 3, 4]
    assert steps[4]["loss"] < steps[1]["loss"]


def test_one_prompt_is_too_few_for_the_kl_term_of_kto(bench: Bench) -> None:
    """The answer to another prompt would be one of its own, and the term would cancel the reward."""
    with pytest.raises(InvalidSpec, match="kto needs at least two different prompts"):
        driver.run_here(bench.attempt(_task("kto"), PREFERENCE_ROWS[:1]))
    without = bench.attempt(_task("kto", loss_type="apo_zero_unpaired"), LABELLED[1:2], name="without")

    driver.run_here(without)

    steps = driver.metrics(without)
    assert steps[4]["loss"] < steps[1]["loss"]


def test_pairs_are_labelled_answers_for_kto(bench: Bench) -> None:
    run_dir = bench.attempt(_task("kto", batch_size=12, data=IN_ORDER), PREFERENCE_ROWS)

    driver.run_here(run_dir)

    first = driver.metrics(run_dir)[1]
    model, tokenizer = _base(bench)
    for name, key in (("logp_chosen", "chosen"), ("logp_rejected", "rejected")):
        logps = [_logp(model, tokenizer, row["prompt"], row[key])[0] for row in PREFERENCE_ROWS]
        assert first[name] == pytest.approx(sum(logps) / 6, rel=1e-5)


@pytest.mark.parametrize(
    ("prompts", "visits", "expected"),
    [
        ("abcde", [0, 1, 2, 3, 4], [2, 0, 1, 4, 3]),
        ("aabbc", [0, 1, 2, 3, 4], [2, 2, 1, 4, 3]),
        ("aaabc", [0, 1, 2, 2, 1, 0], [4, 4, 4, 4, 4, 4]),
        ("abbbb", [1, 2, 3, 4, 0, 1], [0, 0, 0, 0, 4, 0]),
    ],
    ids=["all-differ", "pairs", "one-prompt-in-a-step", "mixed"],
)
def test_an_answer_to_another_prompt_is_taken_from_the_step_where_it_has_one(
    prompts: str, visits: list[int], expected: list[int]
) -> None:
    found = kto.mismatched([[ord(prompt)] for prompt in prompts], visits, 3)

    assert found == expected
    assert all(prompts[row] != prompts[other] for row, other in zip(visits, found, strict=True))


def test_an_answer_to_another_prompt_is_cut_to_the_room_that_is_left() -> None:
    rows = [
        {"prompt_ids": [1, 2, 3, 4, 5], "completion_ids": [6], "label": True},
        {"prompt_ids": [1], "completion_ids": [6, 7, 8, 9, 10], "label": False},
    ]

    batch = kto.Collator(rows, 0, 6)([{"row": 0, "other": 1}, {"row": 1, "other": 0}])

    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6], [1, 6, 7, 8, 9, 10]]
    assert batch["KL_input_ids"].tolist() == [[1, 2, 3, 4, 5, 6], [1, 6, 0, 0, 0, 0]]
    assert batch["KL_completion_mask"].sum(dim=1).tolist() == [1, 1]
    assert batch["label"].tolist() == [True, False]


def test_metrics_of_kto_are_means_over_the_step_whatever_its_micro_batches(bench: Bench) -> None:
    """Three good answers and five bad ones, so that micro batches of two have unequal shares or one label alone; then
    good ones alone."""
    rows = [{**row, "label": index in (0, 1, 4)} for index, row in enumerate([*LABELLED, *LABELLED[:2]])]
    rows += [{**row, "label": True} for row in reversed(rows)]
    task = _task("kto", batch_size=8, data=IN_ORDER, optim={**OPTIM, "steps": 2})
    runs = [bench.attempt(task, rows, name="whole"), bench.attempt({**task, "micro_batch_size": 2}, rows, name="split")]

    for run_dir in runs:
        driver.run_here(run_dir)

    expected, found = (driver.metrics(run_dir) for run_dir in runs)
    for step, values in expected.items():
        assert found[step] == pytest.approx(values, rel=1e-4, abs=1e-6), step
    first, second = found[1], found[2]
    assert first["reward_margin"] == pytest.approx(first["reward_chosen"] - first["reward_rejected"], abs=1e-7)
    assert "logp_chosen" in second
    assert not {"reward_margin", "reward_rejected", "logp_rejected"} & second.keys()


def test_the_time_of_a_step_of_kto_has_the_estimate_of_its_kl_term_in_it(bench: Bench) -> None:
    run_dir = bench.attempt(_task("kto", micro_batch_size=2), LABELLED)

    driver.run_here(run_dir)

    for event in driver.events(run_dir, "metrics"):
        phases = {name: value for name, value in event["values"].items() if name.startswith("seconds_")}
        total = phases.pop("seconds_per_step")
        assert phases["seconds_reference"] > 0
        assert sum(phases.values()) == pytest.approx(total, abs=1e-3)


def test_long_prompts_lose_their_beginning_and_long_answers_their_end(bench: Bench) -> None:
    """`<user>40+8=<assistant>` has 7 tokens; each answer ends with one more token, `<eos>`."""
    run_dir = bench.attempt(_task("dpo"), [{"prompt": "40+8=", "chosen": "48", "rejected": "480"}])
    run = driver.Run.open(run_dir.path)
    _, tokenizer = _base(bench)
    limits = DataSpec(train=driver.DATA, max_prompt_tokens=3, max_tokens=6)

    [pair] = preference.pairs(run, limits, tokenizer)

    run.events.close()
    texts = {key: "".join(tokenizer.convert_ids_to_tokens(ids)) for key, ids in pair.items() if key.endswith("_ids")}
    assert texts == {"prompt_ids": "8=<assistant>", "chosen_ids": "48<eos>", "rejected_ids": "480"}


def test_rows_of_which_an_answer_is_cut_off_are_left_out_and_told(bench: Bench) -> None:
    """`<user>1+2=<assistant>` has 6 tokens, `<user>40+8=<assistant>` 7: with 7 tokens in all the longer leave none."""
    run_dir = bench.attempt(_task("dpo", data={"max_tokens": 7}), PREFERENCE_ROWS)
    driver.run_here(run_dir)
    [told] = [event for event in driver.events(run_dir, "log") if event["level"] == "warning"]

    assert told["message"].startswith("2 of 6 rows were left out")
    with pytest.raises(InvalidSpec, match=r"data.max_tokens \(3\) cuts every answer off"):
        driver.run_here(bench.attempt(_task("dpo", data={"max_tokens": 3}), PREFERENCE_ROWS, name="none"))


def test_beta_can_be_changed_while_it_runs(bench: Bench) -> None:
    run_dir = bench.attempt(_task("dpo"), PREFERENCE_ROWS)
    driver.order(run_dir, "set", beta=0.5)

    driver.run_here(run_dir)

    [told] = driver.events(run_dir, "control_ack")
    assert (told["outcome"], told["message"]) == ("applied", "beta: 0.1 -> 0.5")


@pytest.mark.parametrize("algorithm", ROWS)
def test_a_native_key_that_would_change_nothing_is_refused(bench: Bench, algorithm: str) -> None:
    with pytest.raises(InvalidSpec, match="native.dataset_num_proc would change nothing"):
        driver.run_here(bench.attempt(_task(algorithm, native={"dataset_num_proc": 2}), ROWS[algorithm]))


@pytest.mark.parametrize(
    ("spec", "settings", "told"),
    [
        (DpoSpec, {"label_smoothing": 0.1}, "set loss_type: robust"),
        (DpoSpec, {"loss_type": "exo_pair"}, "needs label_smoothing above 0"),
        (DpoSpec, {"loss_type": "aot", "micro_batch_size": 2}, "micro_batch_size would change the loss"),
        (DpoSpec, {"micro_batch_size": 3}, "must be a multiple of micro_batch_size"),
        (KtoSpec, {"micro_batch_size": 1}, "must be at least 2, or loss_type: apo_zero_unpaired"),
        (OrpoSpec, {"model": {"base": "tiny-char", "lora": {"dropout": 0.1}}}, "set model.lora.dropout: 0"),
        (RewardModelSpec, {"model": {"base": "tiny-char", "lora": {}, "quantize": "nf4"}}, "set model.quantize: none"),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_would(spec: Any, settings: dict[str, Any], told: str) -> None:
    name = {DpoSpec: "dpo", KtoSpec: "kto", OrpoSpec: "orpo", RewardModelSpec: "reward"}[spec]

    with pytest.raises(InvalidSpec, match=told):
        parse(spec, {"algorithm": name, "model": {"base": "tiny-char"}, "data": {"train": "rows"}, **settings})


@pytest.mark.parametrize("loss_type", get_args(DpoSpec.model_fields["loss_type"].annotation))
def test_every_loss_of_dpo_trains(bench: Bench, loss_type: str) -> None:
    """Near a margin of zero the loss of discopop grows with the margin (arXiv:2406.08414)."""
    smoothing = {"label_smoothing": 0.01} if loss_type == "exo_pair" else {}
    run_dir = bench.attempt(_task("dpo", loss_type=loss_type, **smoothing), PREFERENCE_ROWS)

    driver.run_here(run_dir)

    steps = driver.metrics(run_dir)
    assert steps[1]["grad_norm"] > 0
    assert steps[4]["reward_margin"] * (-1 if loss_type == "discopop" else 1) > 0
