"""Gym: any task of Reasoning Gym (https://github.com/open-thought/reasoning-gym, Apache-2.0) as problems.

Needs the package `reasoning-gym`. Differs: a problem counts as solved by its one reference answer, while some tasks
of Reasoning Gym also accept others through their own scorer; tasks without a reference answer are refused.
"""

import difflib
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import Field

from finery.core.errors import InvalidSpec, Unavailable
from finery.datasets.generators import Generated, GeneratorParams, registry

_TRIES_PER_ROW = 10
"""Tasks repeat themselves; after this many tries per row the task has no more different problems to give."""


class GymParams(GeneratorParams):
    """Which task, and how hard."""

    task: str = Field(min_length=1, max_length=100)
    """Name in Reasoning Gym, such as `chain_sum` or `countdown`."""
    config: dict[str, Any] = {}
    """The task's own settings, such as {"min_terms": 2, "max_terms": 4}."""


@registry.register("gym", params=GymParams)
def gym(params: GymParams, taken: Collection[str]) -> Iterator[Generated]:
    """Any task of Reasoning Gym: algebra, logic, games, graphs and more."""
    made: set[str] = set()
    for item in _items(params):
        prompt, answer = item["question"], item["answer"]
        if not isinstance(answer, str):
            raise InvalidSpec(f"the problems of {params.task!r} have no single right answer; choose another task")
        if prompt in made or prompt in taken:
            continue
        made.add(prompt)
        yield Generated(prompt, answer, answer)
        if len(made) == params.num_rows:
            return
    raise InvalidSpec(
        f"{params.task!r} gave only {len(made)} different problems that are not excluded, and num_rows is "
        f"{params.num_rows}; ask for fewer, or make the task larger through config"
    )


def _items(params: GymParams) -> Iterator[dict[str, Any]]:
    tries = params.num_rows * _TRIES_PER_ROW
    dataset = _create(params, tries)
    for index in range(tries):
        try:
            yield dataset[index]
        except IndexError:
            return
        except (ValueError, AssertionError, RecursionError) as error:
            raise InvalidSpec(f"task {params.task!r} failed at problem {index}: {error}") from error


def _create(params: GymParams, size: int) -> Any:
    try:
        from reasoning_gym import factory  # noqa: PLC0415 - heavy and optional
    except ImportError as error:
        raise Unavailable('the generator gym needs reasoning-gym; install it with pip install "finery[trl]"') from error
    if params.task not in factory.DATASETS:
        near = difflib.get_close_matches(params.task, factory.DATASETS, n=5, cutoff=0.3)
        raise InvalidSpec(f"Reasoning Gym has no task {params.task!r}; near it are {', '.join(near) or 'none'}")
    own = sorted({"seed", "size"} & params.config.keys())
    if own:
        raise InvalidSpec(f"config must not contain {', '.join(own)}; give seed and num_rows beside it")
    try:
        return factory.create_dataset(params.task, seed=params.seed, size=size, **params.config)
    except (TypeError, ValueError, AssertionError) as error:
        raise InvalidSpec(f"config does not fit the task {params.task!r}: {error}") from error
