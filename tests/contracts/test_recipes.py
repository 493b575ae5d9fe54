"""Every recipe that comes with Finery is a valid job file that says what it is."""

from pathlib import Path

import pytest

from finery.core import documents
from finery.jobs import checking, recipes

FOLDER = Path(__file__).parents[2] / "recipes"


def test_the_recipes_of_the_checkout_are_those_that_are_found() -> None:
    assert recipes.find_shipped() == FOLDER


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_a_recipe_is_valid_and_begins_with_what_it_is_for(path: Path) -> None:
    spec = checking.read(documents.load(path), name=path.name)

    assert path.suffix == ".yaml"
    assert spec.recipe is None
    assert path.read_text().startswith("# ")
