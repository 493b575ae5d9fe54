"""Kahneman-Tversky optimization with TRL's KTOTrainer, its KL term and its metrics those of the whole step.

Differs from TRL, which estimates the term over each micro batch and takes means of their means. Relies on TRL 1.16
calling `_compute_kl_logps` once with gradient for the policy and once without for the reference, taking the mean
difference, no less than zero, and appending means over a micro batch to `_metrics`.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from datasets import Dataset
from torch import Tensor
from trl import KTOConfig, KTOTrainer

from finery.core.errors import InvalidSpec
from finery.core.rundir import Run
from finery.training import rows as data
from finery.training import world
from finery.training.specs import KtoSpec
from finery.training.tally import Tally
from finery.training.trl import preference, setup

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


_MARGIN = "rewards/margins"


class FineryKtoTrainer(preference.ReferencedTrainer, KTOTrainer):
    """KTO whose rows are tokens already, and whose result does not depend on the size of micro batches."""

    live_names: ClassVar = {"beta": "beta"}
    step_kl: Tensor

    def __init__(self, *args: Any, **kwargs: Any):
        self.tally = Tally()
        super().__init__(*args, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor | int | None]:
        """The micro batches of a step; estimates its KL term in nats per answer."""
        found: tuple[list[dict[str, Tensor]], Tensor | int | None]
        found = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_kl = torch.zeros(1, device=device)
        if self.calculate_KL and found[0]:
            with self.phases.during("reference"), torch.no_grad():
                ratios = torch.cat([self._log_ratios(batch) for batch in found[0]])
                self.step_kl = world.summed(ratios.mean())[None] / world.size()
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

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Tensor], return_outputs: bool) -> Tensor:
        loss: Tensor = super()._compute_loss(model, inputs, return_outputs)
        self._note(inputs["label"], inputs["completion_mask"][:, 1:].sum(dim=1))
        return loss

    def _note(self, is_chosen_B: Tensor, num_tokens_B: Tensor) -> None:
        """Turn TRL's means over a micro batch into sums, so that each answer or token of the step weighs the same."""
        sizes = [part.sum() for mask_B in (is_chosen_B, ~is_chosen_B) for part in (mask_B, num_tokens_B * mask_B)]
        sums = self.accelerator.reduce(torch.stack(sizes)).tolist()
        num_chosen, chosen_tokens, num_rejected, rejected_tokens = sums
        weights = {"entropy": chosen_tokens + rejected_tokens}
        for label, num_rows, num_tokens in (
            ("chosen", num_chosen, chosen_tokens),
            ("rejected", num_rejected, rejected_tokens),
        ):
            weights |= {f"rewards/{label}": num_rows, f"logps/{label}": num_rows, f"logits/{label}": num_tokens}
        means = self._metrics["train"]
        means.pop(_MARGIN, None)
        for name, weight in weights.items():
            for mean in means.pop(name, ()):
                self.tally.add(name, mean * weight, weight)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log means over the step; a label that it has no answer of has none."""
        found = self.tally.take()
        if "rewards/chosen" in found and "rewards/rejected" in found:
            found[_MARGIN] = found["rewards/chosen"] - found["rewards/rejected"]
        logs.update(found)
        super().log(logs, *args, **kwargs)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


def make_trainer(task: KtoSpec, run: Run, loaded: setup.Loaded) -> FineryKtoTrainer:
    """A trainer that is ready to start or to resume."""
    answers = preference.labelled(run, task.data, loaded.tokenizer)
    visits = data.visits(run.spec, len(answers), num=task.optim.steps, size=task.batch_size, shuffle=task.data.shuffle)
    columns = {"row": visits}
    if task.loss_type == "kto":
        if all(answer["prompt_ids"] == answers[0]["prompt_ids"] for answer in answers):
            raise InvalidSpec(
                f"kto needs at least two different prompts, since it compares prompts with the answers to others, and "
                f"{task.data.train} has one; add some, or set loss_type: apo_zero_unpaired"
            )
        columns["other"] = mismatched([answer["prompt_ids"] for answer in answers], visits, task.batch_size)
    arguments = {
        **setup.common_arguments(task.optim, task.model, run),
        **setup.batches(task.batch_size, task.micro_batch_size),
        "beta": task.beta,
        "loss_type": task.loss_type,
        "desirable_weight": task.desirable_weight,
        "undesirable_weight": task.undesirable_weight,
        "max_length": None,
        "disable_dropout": True,
    }
    trainer = FineryKtoTrainer(
        loaded.model,
        ref_model=preference.reference(loaded, task.native),
        args=setup.with_native(KTOConfig, arguments, task.native, unused=_UNUSED),
        train_dataset=Dataset.from_dict(columns),
        processing_class=loaded.tokenizer,
        data_collator=Collator(answers, loaded.tokenizer.pad_token_id, task.data.max_tokens),
        peft_config=loaded.lora,
    )
    preference.score_labels_only(loaded.model)
    if trainer.ref_model is not None:
        preference.score_labels_only(trainer.ref_model, within=trainer.accelerator.autocast)
    return trainer


def mismatched(prompts: list[list[int]], visits: list[int], batch_size: int) -> list[int]:
    """For each visit, the row whose answer is put behind its prompt to estimate the KL term.

    It is the nearest before it in its step, in a circle, that has another prompt; where the step has none, the nearest
    before it in the data.

    Args:
        prompts: Of each row, at least two of them different.
        visits: Row numbers.
        batch_size: Visits of a step.
    """
    nearest = [0] * len(prompts)
    for number in [*range(len(prompts))] * 2:  # the first rows may look back to the last ones
        before = (number - 1) % len(prompts)
        nearest[number] = before if prompts[before] != prompts[number] else nearest[before]
    found = []
    for start in range(0, len(visits), batch_size):
        step = visits[start : start + batch_size]
        for index, row in enumerate(step):
            circle = (step[index - back] for back in range(1, len(step)))
            found.append(next((other for other in circle if prompts[other] != prompts[row]), nearest[row]))
    return found


class Collator:
    """Answers behind their own prompts and, under `KL_`, behind those of others."""

    def __init__(self, answers: list[dict[str, Any]], pad_id: int, max_tokens: int):
        self._answers = answers
        self._pad_id = pad_id
        self._max_tokens = max_tokens

    def __call__(self, features: list[dict[str, int]]) -> dict[str, Tensor]:
        rows = [self._answers[feature["row"]] for feature in features]
        prompts = [row["prompt_ids"] for row in rows]
        batch = preference.sequences(prompts, [row["completion_ids"] for row in rows], self._pad_id)
        batch["label"] = torch.tensor([row["label"] for row in rows])
        if "other" not in features[0]:
            return batch
        # An answer was cut to what its own prompt leaves of `max_tokens`; each prompt leaves at least one.
        others = [
            self._answers[feature["other"]]["completion_ids"][: self._max_tokens - len(prompt)]
            for feature, prompt in zip(features, prompts, strict=True)
        ]
        mismatches = preference.sequences(prompts, others, self._pad_id)
        return batch | {f"KL_{name}": values for name, values in mismatches.items()}
