"""Kahneman-Tversky optimization with TRL's KTOTrainer, its KL term estimated over the whole step.

Differs from TRL, which estimates it over each micro batch. Relies on TRL 1.16 calling `_compute_kl_logps` once with
gradient for the policy and once without for the reference, and taking the mean difference, no less than zero.
"""

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from datasets import Dataset
from torch import Tensor
from trl import KTOConfig, KTOTrainer

from finery.core.errors import InvalidSpec
from finery.core.rundir import Run
from finery.training.specs import KtoSpec
from finery.training.trl import preference, setup
from finery.training.trl import rows as data
from finery.training.trl.steps import ExactTrainer

_UNUSED = frozenset(
    {
        "dataset_num_proc",
        "label_smoothing_factor",
        "model_init_kwargs",
        "pad_to_multiple_of",
        "precompute_ref_batch_size",
        "precompute_ref_log_probs",
        "train_sampling_strategy",
        "trust_remote_code",
    }
)
"""Options of KTOConfig for what happens here without TRL: rows, masks, padding, the reference."""


class FineryKtoTrainer(ExactTrainer, KTOTrainer):
    """KTO whose rows are tokens already, and whose result does not depend on the size of micro batches."""

    live_names: ClassVar = {"beta": "beta"}
    step_kl: Tensor

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor | int | None]:
        """The micro batches of a step; estimates its KL term in nats per answer."""
        found: tuple[list[dict[str, Tensor]], Tensor | int | None]
        found = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_kl = torch.zeros(1, device=device)
        if self.calculate_KL and found[0]:
            with self.phases.during("reference"), torch.no_grad():
                self.step_kl = torch.cat([self._log_ratios(batch) for batch in found[0]]).mean()[None]
        return found

    def _log_ratios(self, batch: dict[str, Tensor]) -> Tensor:
        """log(policy / reference) of each mismatched answer."""
        batch = self._prepare_inputs(batch)
        policy = KTOTrainer._compute_kl_logps(self, self.model, batch)
        is_adapter = self.ref_model is None
        with self.accelerator.unwrap_model(self.model).disable_adapter() if is_adapter else nullcontext():
            reference = KTOTrainer._compute_kl_logps(self, self.model if is_adapter else self.ref_model, batch)
        ratios: Tensor = policy - reference
        return ratios

    def _compute_kl_logps(self, model: torch.nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return self.step_kl if torch.is_grad_enabled() else torch.zeros_like(self.step_kl)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


def make_trainer(task: KtoSpec, run: Run, loaded: setup.Loaded) -> FineryKtoTrainer:
    """A trainer that is ready to start or to resume."""
    answers = preference.labelled(run, task.data, loaded.tokenizer)
    if len(answers) < 2 and task.loss_type == "kto":
        raise InvalidSpec(
            f"kto needs at least two answers, since it compares prompts with the answers of other rows, and "
            f"{task.data.train} has {len(answers)}; add some, or set loss_type: apo_zero_unpaired"
        )
    visits = data.order(len(answers), task.optim.steps * task.batch_size, seed=run.seed, shuffle=task.data.shuffle)
    micro = task.micro_batch_size or task.batch_size
    arguments = {
        **setup.common_arguments(task.optim, task.model, run),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": task.batch_size // micro,
        "beta": task.beta,
        "loss_type": task.loss_type,
        "desirable_weight": task.desirable_weight,
        "undesirable_weight": task.undesirable_weight,
        "max_length": None,
        "disable_dropout": True,
    }
    trainer = FineryKtoTrainer(
        loaded.model,
        ref_model=None if loaded.lora else copy.deepcopy(loaded.model).requires_grad_(False),
        args=setup.with_native(KTOConfig, arguments, task.native, unused=_UNUSED),
        train_dataset=Dataset.from_list(mismatched([answers[number] for number in visits], task.batch_size)),
        processing_class=loaded.tokenizer,
        data_collator=_Collator(loaded.tokenizer.pad_token_id),
        peft_config=loaded.lora,
    )
    preference.score_labels_only(loaded.model)
    if trainer.ref_model is not None:
        preference.score_labels_only(trainer.ref_model)
    return trainer


def mismatched(rows: list[dict[str, Any]], batch_size: int) -> list[dict[str, Any]]:
    """Rows in the order of visits, each with the answer of the row before it in its step; the first with the last's."""
    made = []
    for start in range(0, len(rows), batch_size):
        step = rows[start : start + batch_size]
        made += [{**row, "other_ids": step[index - 1]["completion_ids"]} for index, row in enumerate(step)]
    return made


class _Collator:
    """Rows with their own answers and, under `KL_`, with those of others."""

    def __init__(self, pad_id: int):
        self._pad_id = pad_id

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Tensor]:
        prompts = [feature["prompt_ids"] for feature in features]
        own = preference.sequences(prompts, [feature["completion_ids"] for feature in features], self._pad_id)
        others = preference.sequences(prompts, [feature["other_ids"] for feature in features], self._pad_id)
        labels = torch.tensor([feature["label"] for feature in features])
        return {**own, **{f"KL_{name}": values for name, values in others.items()}, "label": labels}
