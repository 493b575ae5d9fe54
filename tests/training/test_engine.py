"""What the engine does with a task, in this process unless the child's exit is the subject."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from finery.core.errors import InvalidSpec
from finery.core.spec import Spec
from finery.models import chat, loading
from finery.runtime import exits
from finery.training import rewards
from finery.training import rows as data
from finery.training.scoring import RewardFailed
from tests.training import driver
from tests.training.driver import GRPO_ROWS, SFT_ROWS, Bench

# A large epsilon keeps AdamW from blowing the rounding of gradients near zero up to whole steps.
OPTIM = {"steps": 4, "learning_rate": 1e-3, "epsilon": 1e-3}
SFT = {"algorithm": "sft", "optim": OPTIM, "batch_size": 4}
GRPO = {
    "algorithm": "grpo",
    "optim": OPTIM,
    "prompts_per_step": 2,
    "rollout": {"completions_per_prompt": 4, "max_new_tokens": 6},
    "num_iterations": 2,
    "rewards": [{"name": "format", "params": {"pattern": r".*\d.*"}}],
}


def _assert_same_training(
    bench: Bench, whole: dict[str, Any], split: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    runs = [bench.attempt(task, rows, name=name) for name, task in (("whole", whole), ("split", split))]
    for run_dir in runs:
        driver.run_here(run_dir)
    expected, found = (driver.metrics(run_dir) for run_dir in runs)
    assert sorted(found) == sorted(expected) == [1, 2, 3, 4]
    assert any(values["grad_norm"] > 0 for values in expected.values())
    for step, values in expected.items():
        for name in ("loss", "grad_norm"):
            assert found[step][name] == pytest.approx(values[name], rel=1e-4, abs=1e-5), (step, name)
    before, after = (driver.weights(run_dir, 4) for run_dir in runs)
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-5)


@pytest.mark.parametrize("micro_batch_size", [1, 2])
def test_micro_batches_do_not_change_supervised_training(bench: Bench, micro_batch_size: int) -> None:
    _assert_same_training(bench, SFT, {**SFT, "micro_batch_size": micro_batch_size}, SFT_ROWS)


@pytest.mark.parametrize(
    ("loss_type", "ratio_level"),
    [
        ("dapo", "token"),
        ("grpo", "token"),
        ("grpo", "sequence"),
        ("dr_grpo", "token"),
        ("cispo", "token"),
        ("sapo", "token"),
        ("luspo", "sequence"),
        ("vespo", "token"),
    ],
)
def test_micro_batches_do_not_change_grpo(bench: Bench, loss_type: str, ratio_level: str) -> None:
    task = {**GRPO, "loss_type": loss_type, "ratio_level": ratio_level, "kl_coef": 0.1}

    _assert_same_training(bench, task, {**task, "micro_batch_size": 2}, GRPO_ROWS)


def _base(bench: Bench) -> tuple[Any, Any]:
    path = loading.materialize(bench.model, driver.MODEL)
    return loading.load_model(path, dtype="float32"), loading.load_tokenizer(path)


def test_labels_cover_the_response_and_the_token_that_ends_it(bench: Bench) -> None:
    _, tokenizer = _base(bench)
    two, five, end = (tokenizer.convert_tokens_to_ids(token) for token in ("2", "5", "<eos>"))

    [example], num_dropped = data.examples(
        [{"prompt": "9+16=", "response": "25"}], tokenizer, loss_on="response", max_tokens=100
    )

    assert num_dropped == 0
    assert tokenizer.convert_ids_to_tokens(example.input_ids) == [
        *("<user>", "9", "+", "1", "6", "=", "<assistant>"),
        *("2", "5", "<eos>"),
    ]
    assert example.labels == [-100] * 7 + [two, five, end]


@pytest.mark.parametrize(("loss_on", "num_labels"), [("response", [2, 3]), ("all", [7, 9])])
def test_the_loss_is_the_mean_over_all_labels_of_the_step(bench: Bench, loss_on: str, num_labels: list[int]) -> None:
    """Two rows of different length, by hand: each label weighs the same, whichever row it is in."""
    rows = [{"prompt": "1+1=", "response": "2"}, {"prompt": "9+16=", "response": "25"}]
    model, tokenizer = _base(bench)
    losses = []
    for row, num in zip(rows, num_labels, strict=True):
        ids = torch.tensor(tokenizer(f"<user>{row['prompt']}<assistant>{row['response']}<eos>")["input_ids"])
        logprobs = model(ids[None]).logits[0].log_softmax(dim=-1)
        losses += [-logprobs[at - 1, ids[at]].item() for at in range(len(ids) - num, len(ids))]
    run_dir = bench.attempt({**SFT, "batch_size": 2, "optim": {"steps": 1}, "loss_on": loss_on}, rows)

    driver.run_here(run_dir)

    assert driver.metrics(run_dir)[1]["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert len(losses) == sum(num_labels)


@pytest.mark.parametrize(
    ("task", "native", "message"),
    [
        (SFT, {"neftune_noise_alfa": 5}, "native.neftune_noise_alfa: SFTConfig has no such option; did you mean"),
        (SFT, {"learning_rate": 1.0}, "native.learning_rate is set by a field of the job file"),
        (SFT, {"packing": True}, "native.packing is set by a field of the job file"),
        (GRPO, {"beta": 1.0}, "native.beta is set by a field of the job file"),
        (SFT, {"neftune_noise_alpha": "loud"}, "native.neftune_noise_alpha: .*valid number.*'loud'"),
        (SFT, {"completion_only_loss": True}, "native.completion_only_loss would change nothing"),
        (GRPO, {"vllm_mode": "server"}, "native.vllm_mode would change nothing"),
        (GRPO, {"trust_remote_code": True}, "native.trust_remote_code would change nothing"),
        (GRPO, {"debug": "nonsense"}, "the engine does not take these settings"),
    ],
)
def test_a_native_key_that_cannot_be_honoured_fails_the_run(
    bench: Bench, task: dict[str, Any], native: dict[str, Any], message: str
) -> None:
    run_dir = bench.attempt({**task, "native": native}, SFT_ROWS if task is SFT else GRPO_ROWS)

    with pytest.raises(InvalidSpec, match=message):
        driver.run_here(run_dir)


def test_a_native_key_reaches_the_engine(bench: Bench) -> None:
    run_dir = bench.attempt({**SFT, "native": {"neftune_noise_alpha": 50.0}}, SFT_ROWS, name="noisy")
    plain = bench.attempt(SFT, SFT_ROWS, name="plain")

    driver.run_here(run_dir)
    driver.run_here(plain)

    assert driver.metrics(run_dir)[1]["loss"] != driver.metrics(plain)[1]["loss"]


def test_the_child_tells_why_a_run_failed(bench: Bench) -> None:
    run_dir = bench.attempt({**SFT, "native": {"packing": True}}, SFT_ROWS)

    assert driver.run_child(run_dir) == exits.FAILED

    last = driver.events(run_dir, "status")[-1]
    assert last["status"] == "failed"
    assert last["message"] == "native.packing is set by a field of the job file; set that field instead"


@pytest.mark.parametrize(("number", "told"), [(math.nan, "nan"), (math.inf, "inf")])
def test_a_reward_that_is_no_number_fails_the_run_and_shows_the_completion(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: float, told: str
) -> None:
    seen: list[str] = []

    def broken(completions: Sequence[str], rows: Sequence[Mapping[str, Any]], params: Any) -> list[float]:
        """Broken on purpose."""
        seen.extend(completions)
        return [0.0, number] + [0.0] * (len(completions) - 2)

    rewards.registry.all()
    monkeypatch.setattr(rewards.registry, "_entries", dict(rewards.registry._entries))
    rewards.registry.register("broken", params=Spec)(broken)
    run_dir = bench.attempt({**GRPO, "rewards": [{"name": "broken"}]}, GRPO_ROWS)

    with pytest.raises(RewardFailed) as caught:
        driver.run_here(run_dir)

    told = f"the reward broken gave {told}, for 1 of 8 completions; the first is {seen[1]!r} to the prompt "
    assert str(caught.value).startswith(told)


def test_a_limit_that_cuts_every_response_fails_the_run(bench: Bench) -> None:
    run_dir = bench.attempt({**SFT, "data": {"max_tokens": 3}}, SFT_ROWS)

    with pytest.raises(InvalidSpec, match=r"data.max_tokens \(3\) cuts every response off"):
        driver.run_here(run_dir)


def test_rows_whose_response_is_cut_are_left_out_and_told(bench: Bench) -> None:
    """`<user>40+8=<assistant>48<eos>` has 7 tokens before the response, `<user>1+2=<assistant>` has 6."""
    run_dir = bench.attempt({**SFT, "data": {"max_tokens": 7}}, SFT_ROWS)

    driver.run_here(run_dir)

    [told] = [event for event in driver.events(run_dir, "log") if event["level"] == "warning"]
    assert told["message"].startswith("2 of 6 rows were left out")


def test_a_new_learning_rate_holds_from_the_next_step_on(bench: Bench) -> None:
    run_dir = bench.attempt(SFT, SFT_ROWS, checkpoint_interval=1)
    driver.order(run_dir, "set", learning_rate=1e-20)

    driver.run_here(run_dir)

    [told] = driver.events(run_dir, "control_ack")
    assert (told["outcome"], told["step"], told["message"]) == ("applied", 1, "learning_rate: 0.001 -> 1e-20")
    assert [values["learning_rate"] for values in driver.metrics(run_dir).values()] == [1e-3, 1e-20, 1e-20, 1e-20]
    start, first, last = _base(bench)[0].state_dict(), driver.weights(run_dir, 1), driver.weights(run_dir, 4)
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(start[name], first[name])
    assert torch.equal(first[name], last[name])


def test_a_learning_rate_set_after_the_last_step_does_not_fail_the_run(bench: Bench) -> None:
    """The schedule is then at zero, and no factor scales zero to the wanted rate."""
    optim = {"steps": 1, "learning_rate": 1e-3, "schedule": "linear"}
    run_dir = bench.attempt({**SFT, "optim": optim}, SFT_ROWS)
    driver.order(run_dir, "set", learning_rate=1e-4)

    driver.run_here(run_dir)

    [told] = driver.events(run_dir, "control_ack")
    assert told["outcome"] == "rejected"
    assert driver.checkpoint(run_dir, 1)


@pytest.mark.parametrize(("name", "value"), [("learning_rate", 0.0), ("learning_rate", -1.0), ("clip_low", 0.1)])
def test_a_control_that_is_not_there_or_out_of_range_is_rejected(bench: Bench, name: str, value: float) -> None:
    run_dir = bench.attempt({**SFT, "optim": {**OPTIM, "steps": 2}}, SFT_ROWS)
    driver.order(run_dir, "set", **{name: value})

    driver.run_here(run_dir)

    [told] = driver.events(run_dir, "control_ack")
    assert told["outcome"] == "rejected"
    assert driver.metrics(run_dir)[2]["learning_rate"] == 1e-3


def test_pause_saves_a_checkpoint_and_ends_with_its_own_status(bench: Bench) -> None:
    run_dir = bench.attempt(SFT, SFT_ROWS)
    driver.order(run_dir, "pause")

    assert driver.run_child(run_dir) == exits.PAUSED == 3, driver.log_of(run_dir)

    assert driver.checkpoint(run_dir, 1)
    assert [event["status"] for event in driver.events(run_dir, "status")][-1] == "paused"
    assert sorted(driver.metrics(run_dir)) == [1]


def test_a_checkpoint_is_a_folder_that_transformers_loads(bench: Bench) -> None:
    run_dir = bench.attempt(SFT, SFT_ROWS)
    driver.run_here(run_dir)
    folder = driver.checkpoint(run_dir, 4)

    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    torch.testing.assert_close(
        model.state_dict()["model.norm.weight"], driver.weights(run_dir, 4)["model.norm.weight"], rtol=0, atol=0
    )
    ids = torch.tensor([chat.render_prompt(tokenizer, "1+2=")])
    assert tokenizer.decode(ids[0]) == "<user>1+2=<assistant>"
    assert model.generate(ids, max_new_tokens=2, do_sample=False).shape[1] > ids.shape[1]


def test_an_engine_that_is_not_there_is_named(bench: Bench) -> None:
    run_dir = bench.attempt({**SFT, "engine": "verl"}, SFT_ROWS)

    with pytest.raises(InvalidSpec, match="there is no verl in"):
        driver.run_here(run_dir)
