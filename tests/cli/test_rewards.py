"""`finery rewards`: what job files can name."""

import json

from typer.testing import CliRunner

from finery.cli.main import app
from finery.training import rewards

NAMES = {"code_tests", "llm_judge", "python_file", "reward_model", "math_equal"}


def test_every_reward_is_listed_with_what_it_gives() -> None:
    result = CliRunner().invoke(app, ["rewards", "list", "--json"])

    found = {one["name"]: one["summary"] for one in json.loads(result.stdout)["rewards"]}
    assert set(found) >= NAMES
    assert all(summary.endswith(".") for summary in found.values())


def test_one_is_shown_with_its_parameters() -> None:
    text = CliRunner().invoke(app, ["rewards", "show", "reward_model"]).stdout
    raw = json.loads(CliRunner().invoke(app, ["rewards", "show", "reward_model", "--json"]).stdout)

    assert "scale" in text
    assert "(required)" in text
    assert raw["params_schema"]["properties"]["dtype"]["enum"][-1] == "nf4"


def test_each_parameter_of_each_reward_is_explained() -> None:
    """The sentence is the hint of the form on the launch page."""
    missing = [
        f"{entry.name}.{name}"
        for entry in rewards.registry.all()
        for name, field in entry.params.model_fields.items()
        if not field.description
    ]

    assert missing == []
