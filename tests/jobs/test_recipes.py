"""Recipes, the dry run and the form's schema over the real routes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from finery import migrations
from finery.api.app import create_app
from finery.cli.main import app as cli
from finery.core.clock import FakeClock
from finery.core.db import Database
from finery.core.errors import Conflict, InvalidSpec, NotFound
from finery.core.settings import Settings
from finery.jobs.recipes import RecipeBook, differences
from finery.training import rewards

SFT = """# A first try.
name: mine
kind: train
task:
  algorithm: sft
  model: {base: tiny-char}
  data: {train: sums}
  optim: {steps: 30}
  batch_size: 8
"""


class Api:
    """The routes, as somebody with the token."""

    def __init__(self, http: TestClient, token: str):
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}"}

    def __call__(self, verb: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        response = self._http.request(verb, f"/api{path}", json=body, headers=self._headers)
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    def generate(self, name: str, **params: Any) -> None:
        self("POST", "/datasets/generate", {"generator": "arithmetic", "name": name, "params": params}, status=201)

    def dry_run(self, text: str) -> Any:
        return self("POST", "/jobs/dry-run", {"text": text})


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    db = Database(settings.url)
    migrations.upgrade(db, lock=settings.home / "migrate.lock")
    with TestClient(create_app(settings, db=db, clock=FakeClock()), base_url="http://127.0.0.1:8321") as http:
        yield Api(http, settings.token_file.read_text())


def test_recipes_of_finery_and_own_ones_are_listed_with_what_they_are(api: Api) -> None:
    api("PUT", "/recipes/mine", {"text": SFT})

    found = {recipe["name"]: recipe for recipe in api("GET", "/recipes")["recipes"]}

    assert found["tiny_grpo"]["algorithm"] == "grpo"
    assert not found["tiny_grpo"]["is_own"]
    assert found["tiny_pipeline"]["kind"] == "pipeline"
    assert found["mine"] | {"description": "A first try.", "is_own": True, "algorithm": "sft"} == found["mine"]
    assert api("GET", "/recipes/mine")["text"] == SFT


def test_a_recipe_that_is_no_job_file_is_not_kept(api: Api, settings: Settings) -> None:
    answer = api("PUT", "/recipes/mine", {"text": SFT.replace("steps", "stepz")}, status=422)

    assert answer["problems"][0] | {"path": "task.optim.stepz", "line": 8} == answer["problems"][0]
    assert not (settings.home / "recipes").exists()


def test_a_recipe_of_finery_is_neither_replaced_nor_deleted(api: Api) -> None:
    before = api("GET", "/recipes/tiny_sft")["text"]

    api("PUT", "/recipes/tiny_sft", {"text": SFT}, status=409)
    api("DELETE", "/recipes/tiny_sft", status=409)

    assert api("GET", "/recipes/tiny_sft")["text"] == before


def test_an_own_recipe_is_replaced_and_deleted(api: Api) -> None:
    api("PUT", "/recipes/mine", {"text": SFT})
    api("PUT", "/recipes/mine", {"text": SFT.replace("30", "31")})

    assert "31" in api("GET", "/recipes/mine")["text"]
    api("DELETE", "/recipes/mine", status=204)
    api("GET", "/recipes/mine", status=404)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "%2e%2e%2fx", "x" * 65, "", "a b"])
def test_a_name_that_is_none_is_refused(settings: Settings, name: str) -> None:
    with pytest.raises(InvalidSpec):
        RecipeBook(settings).save(name, SFT)
    with pytest.raises((InvalidSpec, NotFound)):
        RecipeBook(settings).get(name)


def test_a_file_that_became_invalid_is_listed_with_what_is_wrong(settings: Settings, tmp_path: Path) -> None:
    (settings.home / "recipes").mkdir()
    (settings.home / "recipes" / "old.yaml").write_text("name: old\n")
    book = RecipeBook(settings, shipped=tmp_path)

    [found] = book.all()

    assert found.kind is None
    assert "kind" in found.problem
    with pytest.raises(Conflict):
        RecipeBook(settings).save("tiny_sft", SFT)


def test_differences_are_by_dotted_key_and_leave_the_name_of_the_recipe_out() -> None:
    recipe = {"name": "a", "recipe": None, "task": {"rate": 1, "rewards": [{"weight": 1}], "same": 2}}
    job = {"name": "a", "recipe": "mine", "task": {"rate": 3, "rewards": [{"weight": 1}, {"weight": 4}], "same": 2}}

    found = [(row.key, row.recipe, row.job) for row in differences(recipe, job)]

    assert found == [("task.rate", 1, 3), ("task.rewards.1.weight", None, 4)]


def test_a_job_shows_what_it_has_otherwise_than_its_recipe(api: Api) -> None:
    api.generate("sums", format="sft", num_rows=20)
    api("PUT", "/recipes/mine", {"text": SFT})
    spec = api("POST", "/jobs/check", {"text": f"{SFT}recipe: mine\n".replace("30", "31")})["spec"]
    job = api("POST", "/jobs", {"spec": spec}, status=201)

    shown = api("GET", f"/jobs/{job['id']}/recipe")

    assert shown == {
        "recipe": "mine",
        "is_known": True,
        "differences": [{"key": "task.optim.steps", "recipe": 30, "job": 31}],
    }
    api("DELETE", "/recipes/mine", status=204)
    assert api("GET", f"/jobs/{job['id']}/recipe")["is_known"] is False


def test_a_job_of_a_pipeline_is_compared_with_the_job_of_its_name(api: Api) -> None:
    for name, params in {"sums": {}, "sums-sft": {"format": "sft"}, "sums-test": {"seed": 1}}.items():
        api.generate(name, num_rows=20, **params)
    text = api("GET", "/recipes/tiny_pipeline")["text"] + "recipe: tiny_pipeline\n"
    spec = api("POST", "/jobs/check", {"text": text.replace("steps: 40", "steps: 41")})["spec"]
    made = api("POST", "/pipelines", {"spec": spec}, status=201)["jobs"]

    first = api("GET", f"/jobs/{made[0]['id']}/recipe")

    assert [row["key"] for row in first["differences"]] == ["task.optim.steps"]
    assert first["recipe"] == "tiny_pipeline"


def test_a_dry_run_says_what_references_stand_for_and_how_much_work_it_is(api: Api) -> None:
    api.generate("sums", format="sft", num_rows=60)

    answer = api.dry_run(SFT)

    assert answer["is_valid"]
    [job] = answer["jobs"]
    model, data = job["inputs"]
    assert (model["kind"], model["availability"], model["num_bytes"]) == ("builtin", "build", None)
    assert (data["ref"], data["num_rows"], data["availability"]) == ("sums", 60, "ready")
    assert data["num_bytes"] > 0
    assert len(data["sha256"]) == 64
    assert (job["num_steps"], job["rows_per_step"], job["epochs"]) == (30, 8, 4.0)
    assert api("GET", "/jobs")["total"] == 0


def test_a_dry_run_of_grpo_counts_prompts_and_completions(api: Api) -> None:
    api.generate("sums", num_rows=60)

    [job] = api.dry_run(api("GET", "/recipes/tiny_grpo")["text"])["jobs"]

    assert (job["rows_per_step"], job["completions_per_step"], job["epochs"]) == (4, 32, 2.0)


@pytest.mark.parametrize(
    ("recipe", "needed"),
    [
        ("tiny_sft", "sft"),
        ("tiny_grpo", "verifiable"),
        ("tiny_reward", "preference"),
        ("tiny_dpo", "preference"),
        ("tiny_orpo", "preference"),
        ("tiny_kto", "unpaired or preference"),
    ],
)
def test_a_dry_run_refuses_data_of_a_format_that_the_algorithm_cannot_use(api: Api, recipe: str, needed: str) -> None:
    text = api("GET", f"/recipes/{recipe}")["text"]
    name = re.findall(r"train: ([\w-]+)", text)[-1]
    other = "verifiable" if needed == "sft" else "sft"
    api.generate(name, format=other, num_rows=20)

    wrong = api.dry_run(text)

    [problem] = wrong["problems"]
    assert problem["path"] == "task.data.train"
    assert f"{name}@1 is data of the format {other}, but this job needs {needed};" in problem["message"]
    api.generate(name, format=needed.partition(" ")[0], num_rows=20)
    assert api.dry_run(text)["is_valid"]


def test_a_dry_run_reports_each_reference_that_leads_nowhere_at_its_line(api: Api) -> None:
    answer = api.dry_run(SFT.replace("tiny-char", "tiny-cha") + "after: [77]\n")

    assert not answer["is_valid"]
    found = {problem["path"]: problem["line"] for problem in answer["problems"]}
    assert found == {"task.model.base": 6, "task.data.train": 7, "after": 10}
    assert "did you mean tiny-char" in answer["problems"][0]["message"]


def test_a_dry_run_of_a_pipeline_knows_the_checkpoints_of_its_earlier_jobs(api: Api) -> None:
    for name, params in {"sums": {}, "sums-sft": {"format": "sft"}, "sums-test": {"seed": 1}}.items():
        api.generate(name, num_rows=20, **params)

    answer = api.dry_run(api("GET", "/recipes/tiny_pipeline")["text"])

    assert answer["is_valid"], answer["problems"]
    assert [job["inputs"][0]["availability"] for job in answer["jobs"]] == ["build", "later", "later"]
    assert answer["jobs"][2]["num_steps"] == 1


def test_a_dry_run_refuses_the_checkpoint_of_a_job_that_does_not_exist(api: Api) -> None:
    api.generate("sums", format="sft", num_rows=20)

    answer = api.dry_run(SFT.replace("tiny-char", "job:9/last"))

    assert [problem["path"] for problem in answer["problems"]] == ["task.model.base"]
    assert "there is no job" in answer["problems"][0]["message"]


def test_a_dry_run_of_text_that_is_no_job_file_says_so(api: Api) -> None:
    answer = api.dry_run("name: [\n")

    assert not answer["is_valid"]
    assert answer["problems"][0]["line"] is not None


def test_the_schema_offers_each_algorithm_and_the_parameters_of_each_reward(api: Api) -> None:
    schema = api("GET", "/jobs/schema")["json_schema"]
    definitions = schema["$defs"]

    assert set(schema["discriminator"]["mapping"]) == {"train", "evaluate", "compare", "pipeline"}
    assert "grpo" in definitions["TrainJob"]["properties"]["task"]["discriminator"]["mapping"]
    reward = definitions["RewardSpec"]["discriminator"]["mapping"]["format"].rpartition("/")[2]
    assert "pattern" in definitions[reward]["properties"]["params"]["properties"]
    optim = definitions["OptimSpec"]["properties"]
    assert optim["steps"]["description"] == "Optimizer steps in all."
    assert (optim["beta1"].get("advanced"), optim["steps"].get("advanced")) == (True, None)


def test_the_command_line_lists_and_prints_recipes_without_a_server(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINERY_HOME", str(settings.home))
    RecipeBook(settings).save("mine", SFT)

    listed = CliRunner().invoke(cli, ["recipes", "list"])
    printed = CliRunner().invoke(cli, ["recipes", "show", "mine"])

    assert "tiny_grpo" in listed.output
    assert "A first try." in listed.output
    assert printed.output == SFT


ANSWERS = {
    "grpo-gsm8k": "6 * 7 = 42.\nSo she pays $42.",
    "qwen3-32b-grpo-4bit": "<think>6 * 7</think> It is 42.",
    "ascend-grpo": "<think>6 * 7</think>\n<answer>\\boxed{42}</answer>",
}
"""Right answers to `42`; of every other recipe it is the number alone."""


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_right_answer_earns_every_reward_of_a_recipe(path: Path) -> None:
    whole = yaml.safe_load(path.read_text())
    for job in whole.get("jobs", [whole]):
        for reward in job["task"].get("rewards", []) if job["kind"] == "train" else ():
            if reward["name"] == "reward_model" or reward.get("weight") == 0:
                continue  # has to be trained first, or is only watched
            params = rewards.registry.params(reward["name"], reward.get("params", {}))
            answer = ANSWERS.get(whole["name"], "42")
            assert rewards.registry.get(reward["name"]).target([answer], [{"answer": "42"}], params) == [1.0], reward
