"""The built-in models: the same bytes every time, built once, and what they can do."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from finery.core.errors import Unavailable
from finery.models import builtin, chat, loading, resolving
from finery.models.generation import Sampling, generate

_MATERIALIZE = """
import sys
from pathlib import Path
from finery.models import builtin, loading, resolving
build = builtin.build
def counted(name, folder):
    print("built", flush=True)
    build(name, folder)
builtin.build = counted
print("ready", flush=True)
sys.stdin.readline()
print(loading.materialize(resolving.resolve("tiny-char", home=Path(sys.argv[1])), "tiny-char"))
"""


def test_the_tiny_model_has_less_than_a_million_parameters(tiny: PreTrainedModel) -> None:
    assert 100_000 < tiny.num_parameters() < 1_000_000


def test_the_tiny_tokenizer_does_not_pad_with_the_end_of_sequence(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    assert tiny_tokenizer.pad_token_id != tiny_tokenizer.eos_token_id
    assert tiny_tokenizer.padding_side == "left"


@pytest.mark.parametrize("text", ["12+34=46", "A line.\nAnother  one, {with} <marks>!", "  spaces  stay "])
def test_the_tiny_tokenizer_gives_every_character_back(tiny_tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tiny_tokenizer(text)["input_ids"]

    assert len(ids) == len(text)
    assert tiny_tokenizer.decode(ids) == text


def test_two_processes_that_need_it_at_once_build_it_once_and_as_another_one_did(home: Path, tiny_folder: Path) -> None:
    argv = [sys.executable, "-c", _MATERIALIZE, str(home)]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"

    with ThreadPoolExecutor(2) as threads:
        outputs = [done[0] for done in threads.map(lambda process: process.communicate("\n", timeout=120), both)]

    assert sum(output.count("built") for output in outputs) == 1
    assert {output.splitlines()[-1] for output in outputs} == {str(home / "models" / "tiny-char")}
    assert [process.returncode for process in both] == [0, 0]
    assert {path.name for path in (home / "models").iterdir()} == {"tiny-char", ".tiny-char.lock"}
    made, here = (
        {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "finery.json"}
        for folder in (home / "models" / "tiny-char", tiny_folder)
    )
    assert made == here


def test_who_comes_second_waits_for_the_first(home: Path) -> None:
    found = resolving.resolve("tiny-char", home=home)
    with loading._locked(home / "models" / "tiny-char"):
        other = threading.Thread(target=loading.materialize, args=(found, "tiny-char"))  # the lock is of an open file
        other.start()
        other.join(timeout=0.5)
        assert other.is_alive()
        assert not (home / "models" / "tiny-char").exists()
    other.join(timeout=120)

    assert (home / "models" / "tiny-char" / "model.safetensors").is_file()


def test_a_build_that_fails_leaves_nothing_half_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_name: str, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise Unavailable("no disk")

    found = resolving.resolve("tiny-char", home=home)
    with monkeypatch.context() as patch:
        patch.setattr(builtin, "build", fails)
        with pytest.raises(Unavailable):
            loading.materialize(found, "tiny-char")

    assert [path.name for path in (home / "models").iterdir()] == [".tiny-char.lock"]
    assert (loading.materialize(found, "tiny-char") / "model.safetensors").is_file()


def test_a_model_of_an_older_recipe_is_built_again(home: Path) -> None:
    found = resolving.resolve("tiny-char", home=home)
    folder = loading.materialize(found, "tiny-char")
    (folder / "left over").write_text("")

    again = loading.materialize(found.model_copy(update={"sha256": "0" * 64}), "tiny-char")

    assert again == folder
    assert not (folder / "left over").exists()


def test_smollm2_knows_the_capital_of_france(smollm2_folder: Path) -> None:
    """Slow (some seconds): the only test that reads the real weights back."""
    tokenizer = loading.load_tokenizer(smollm2_folder)
    model = loading.load_model(smollm2_folder, dtype="float32").eval()
    prompt = tokenizer("The capital of France is")["input_ids"]

    [answer] = generate(model, [prompt], Sampling(max_new_tokens=12, stop_ids=chat.stop_ids(tokenizer)))

    assert "Paris" in tokenizer.decode(answer.token_ids)
