"""What is written for MindSpore: read back by its own data set, and started by its own msrun."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from finery.core import environment
from finery.jobs.specs import TrainJob
from finery.training.exporters import registry

PYTHON = environment.interpreter(environment.MINDSPORE_PYTHON)
READ = """
import sys, orjson
from mindspore.dataset import MindDataset
rows = MindDataset(sys.argv[1], shuffle=False).create_dict_iterator(output_numpy=True, num_epochs=1)
found = [{name: (str(value.dtype), value.tolist()) for name, value in row.items()} for row in rows]
print("ROWS" + orjson.dumps(found).decode())
"""
MAIN = """
import os, sys
from mindspore.dataset import MindDataset
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert os.path.isfile(given["--config"]) and os.path.isfile(given["--tokenizer_dir"] + "/tokenizer.json")
data = MindDataset(given["--dataset_file"]).project(columns=["prompt_ids", "pretrain_ids"])
data = data.batch(2, drop_remainder=True)
print("ROLE", os.environ["MS_ROLE"], "STEPS", data.get_dataset_size(), given["--verifier_function"])
"""

pytestmark = pytest.mark.skipif(
    not PYTHON.is_file() and not os.environ.get("FINERY_REQUIRE_ALL"),
    reason=f"mindspore (`make mindspore`; no interpreter at {PYTHON}) is absent",
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PYTHON), *arguments],
        env=environment.foreign_environment({**os.environ, "OMP_NUM_THREADS": "1"}),
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token per character, and a template that says who speaks."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tokenizer")
    words = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", "U", "A", *"0123456789+="])}
    made = Tokenizer(models.WordLevel(vocab=words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    found = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    found.chat_template = (
        "{% for message in messages %}{{ 'U' if message['role'] == 'user' else 'A' }}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'A' }}{% endif %}"
    )
    found.save_pretrained(folder)
    return folder


def write(kind: str, rows: list[dict[str, Any]], folder: Path, tokenizer: Path, *options: str) -> Path:
    source, out = folder / "rows.jsonl", folder / "train.mindrecord"
    source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    done = run("-m", "finery.datasets.mindrecord", kind, str(source), str(tokenizer), str(out), *options)
    assert done.returncode == 0, done.stderr
    assert f"{len(rows)} rows in" in done.stdout
    return out


def read(path: Path) -> list[dict[str, Any]]:
    done = run("-c", READ, str(path))
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("ROWS"))
    found: list[dict[str, Any]] = orjson.loads(line.removeprefix("ROWS"))
    return found


def test_prompts_and_answers_are_padded_and_the_mask_lies_on_the_answer(tmp_path: Path, tokenizer: Path) -> None:
    rows = [{"prompt": "1+2=", "answer": "3"}, {"prompt": [{"role": "user", "content": "12+34="}], "answer": "46"}]
    rows += [{"prompt": "1=", "answer": str(number)} for number in range(1000)]

    path = write("grpo", rows, tmp_path, tokenizer, "--max-prompt-tokens", "7", "--max-tokens", "4")

    # U is 3, A is 4, the digit d is 5 + d, + is 15, = is 16; the second prompt is cut on the left.
    found = read(path)
    answers = ["".join(str(token - 5) for token in row["pretrain_ids"][1] if token) for row in found[2:]]
    assert answers == [row["answer"] for row in rows[2:]], "rows come back in another order"
    assert found[:2] == [
        {
            "prompt_ids": ["int64", [3, 6, 15, 7, 16, 4, 0]],
            "pretrain_ids": ["int64", [8, 0, 0, 0]],
            "loss_mask": ["int64", [1, 0, 0, 0]],
        },
        {
            "prompt_ids": ["int64", [6, 7, 15, 8, 9, 16, 4]],
            "pretrain_ids": ["int64", [9, 11, 0, 0]],
            "loss_mask": ["int64", [1, 1, 0, 0]],
        },
    ]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["rows.jsonl", "train.mindrecord", "train.mindrecord.db"]


def test_labels_of_prompts_and_padding_carry_no_loss(tmp_path: Path, tokenizer: Path) -> None:
    path = write("sft", [{"prompt": "1+2=", "response": "3"}], tmp_path, tokenizer, "--max-tokens", "10")

    assert read(path) == [
        {
            "input_ids": ["int32", [3, 6, 15, 7, 16, 4, 8, 1, 0, 0]],
            "labels": ["int32", [-100, -100, -100, -100, -100, -100, 8, 1, -100, -100]],
        }
    ]


def test_a_prompt_with_the_padding_token_is_refused_and_leaves_no_file(tmp_path: Path, tokenizer: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "1=", "answer": "1"}\n{"prompt": "1<pad>=", "answer": "1"}\n')

    done = run("-m", "finery.datasets.mindrecord", "grpo", str(rows), str(tokenizer), str(tmp_path / "a.mindrecord"))

    assert done.returncode == 1
    assert "row 2 contains the padding token '<pad>'" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_an_exported_job_has_its_records_and_is_started_by_msrun(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real msrun, on two processes; in place of MindRLHF, which needs the cards, a program that takes its arguments."""
    monkeypatch.setenv(environment.MINDSPORE_PYTHON, str(PYTHON))
    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(tokenizer, model)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = {"model_type": "qwen2", "intermediate_size": 128, "vocab_size": 17, "eos_token_id": 1, "pad_token_id": 0}
    (model / "config.json").write_bytes(orjson.dumps(config | shape))
    main = tmp_path / "mindrlhf" / "examples" / "grpo" / "qwen_grpo_tutorial" / "main.py"
    main.parent.mkdir(parents=True)
    main.write_text(MAIN)
    task = {
        "algorithm": "grpo",
        "model": {"base": str(model)},
        "data": {"train": "sums@1", "max_prompt_tokens": 16},
        "rewards": ["math_equal"],
        "loss_type": "grpo",
        "optim": {"weight_decay": 0.1, "steps": 2},
        "rollout": {"completions_per_prompt": 2, "max_new_tokens": 16},
        "prompts_per_step": 4,
    }
    job = TrainJob.model_validate({"name": "sums", "kind": "train", "task": task, "resources": {"gpus": 2}})
    out.mkdir()

    rows = [{"prompt": f"{number}+1=", "answer": str(number + 1)} for number in range(10)]
    written = registry.get("mindrlhf").target(job, out, data_rows=iter(rows))

    assert out / "data" / "train.mindrecord" in written
    assert len(read(out / "data" / "train.mindrecord")) == 10
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = {"MINDRLHF": str(tmp_path / "mindrlhf"), "MINDFORMERS": str(tmp_path), "MASTER_PORT": str(port)}
    path = f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [out / "run_grpo.sh"], env={**os.environ, **places, "PATH": path}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    logs = [(out / "logs" / f"worker_{rank}.log").read_text() for rank in range(2)]
    assert all("ROLE MS_WORKER STEPS 5 qwen_accuracy_reward" in log for log in logs)
