"""Direct preference optimization with TRL's DPOTrainer: its losses, our tokens, log-probabilities of answers alone."""

from typing import Any, ClassVar

from torch import Tensor
from trl import DPOConfig, DPOTrainer

from finery.core.rundir import Run
from finery.training.specs import DpoSpec
from finery.training.trl import preference, setup

_UNUSED = frozenset(
    {
        "dataset_num_proc",
        "label_smoothing_factor",
        "model_init_kwargs",
        "pad_to_multiple_of",
        "pad_token",
        "padding_free",
        "precompute_ref_batch_size",
        "precompute_ref_log_probs",
        "train_sampling_strategy",
        "truncation_mode",
        "trust_remote_code",
    }
)
"""Options of DPOConfig for what happens here without TRL: rows, masks, padding, the reference."""


class FineryDpoTrainer(preference.ReferencedTrainer, DPOTrainer):
    """DPO whose rows are tokens already."""

    live_names: ClassVar = {"beta": "beta"}

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


def make_trainer(task: DpoSpec, run: Run, loaded: setup.Loaded) -> FineryDpoTrainer:
    """A trainer that is ready to start or to resume."""
    pairs = preference.pairs(run, task.data, loaded.tokenizer)
    arguments = {
        **setup.common_arguments(task.optim, task.model, run),
        **setup.batches(task.batch_size, task.micro_batch_size),
        "beta": task.beta,
        "loss_type": [task.loss_type],
        "label_smoothing": task.label_smoothing,
        "max_length": None,
        "disable_dropout": True,
    }
    trainer = FineryDpoTrainer(
        loaded.model,
        ref_model=preference.reference(loaded, task.native),
        args=setup.with_native(DPOConfig, arguments, task.native, unused=_UNUSED),
        train_dataset=preference.visited(pairs, run, task.data, num=task.optim.steps, size=task.batch_size),
        processing_class=loaded.tokenizer,
        data_collator=Collator(loaded.tokenizer.pad_token_id),
        peft_config=loaded.lora,
    )
    preference.score_labels_only(loaded.model, with_squares=trainer.use_weighting)
    if trainer.ref_model is not None:
        preference.score_labels_only(trainer.ref_model, within=trainer.accelerator.autocast)
    return trainer


class Collator:
    """Chosen rows, then rejected ones."""

    def __init__(self, pad_id: int):
        self._pad_id = pad_id

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Tensor]:
        prompts = [feature["prompt_ids"] for feature in features]
        answers = [feature[key] for key in ("chosen_ids", "rejected_ids") for feature in features]
        return preference.sequences(prompts * 2, answers, self._pad_id)
