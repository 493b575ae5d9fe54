"""Odds ratio preference optimization with TRL's ORPOTrainer: its odds ratio, our tokens and our SFT term.

Differs from TRL in the SFT term: a mean over the labels of the whole step, so that micro batches change nothing, and
by default of the chosen answer alone.
"""

from typing import Any, ClassVar

import torch
from datasets import disable_progress_bars
from torch import Tensor
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from finery.core.rundir import Run
from finery.training import world
from finery.training.specs import OrpoSpec
from finery.training.tally import Tally
from finery.training.trl import preference, setup
from finery.training.trl.dpo import Collator
from finery.training.trl.steps import ExactTrainer

_UNUSED = frozenset(
    {
        "dataset_num_proc",
        "generate_during_eval",
        "is_encoder_decoder",
        "label_smoothing_factor",
        "max_completion_length",
        "model_init_kwargs",
        "padding_value",
        "train_sampling_strategy",
        "trust_remote_code",
    }
)
"""Options of ORPOConfig for what happens here without TRL: rows, masks, padding."""

_LARGEST_LOGPROB = -1e-6
"""An answer that is certain has infinite odds; log-probabilities per token stay below this."""


class FineryOrpoTrainer(ExactTrainer, ORPOTrainer):
    """ORPO that computes logits only in the columns where some row has a label.

    Dimensions: B pairs, T tokens, S = T - 1 predicted tokens.
    """

    live_names: ClassVar = {"beta": "beta"}
    loss_is_scaled_for_ga = False
    loss_on: str
    _total_train_tokens = 0

    def __init__(self, *args: Any, **kwargs: Any):
        self.tally = Tally()
        super().__init__(*args, **kwargs)

    @staticmethod
    def tokenize_row(feature: dict[str, Any]) -> dict[str, Any]:
        """The row as it is: it is tokens already."""
        return feature

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Cross entropy of the chosen rows plus the odds ratio term, of one micro batch."""
        ids_2BT, attention_2BT = inputs["input_ids"], inputs["attention_mask"]
        is_label_2BT = (inputs["completion_mask"] == 1) | self._is_sft_label(inputs)
        output = preference.labelled_columns(
            model,
            ids_2BT.masked_fill(~is_label_2BT, -100),
            input_ids=ids_2BT,
            attention_mask=attention_2BT,
            use_cache=False,
        )
        is_answer_2BS = inputs["completion_mask"][:, 1:] == 1
        means_2B = (output.log_probs * is_answer_2BS).sum(dim=1) / is_answer_2BS.sum(dim=1)
        chosen_B, rejected_B = means_2B.clamp(max=_LARGEST_LOGPROB).chunk(2)
        terms_B, chosen_rewards_B, rejected_rewards_B, log_ratio, log_odds = self.odds_ratio_loss(chosen_B, rejected_B)
        is_sft_2BS = self._is_sft_label(inputs)[:, 1:]
        num_labels = is_sft_2BS.sum() if num_items_in_batch is None else num_items_in_batch
        sft_loss = -output.log_probs[is_sft_2BS].sum() / num_labels * self.current_gradient_accumulation_steps
        loss: Tensor = sft_loss - terms_B.mean()
        self._note(output, is_sft_2BS, attention_2BT)
        of_pairs = {
            "rewards/chosen": chosen_rewards_B,
            "rewards/rejected": rejected_rewards_B,
            "rewards/margins": chosen_rewards_B - rejected_rewards_B,
            "rewards/accuracies": chosen_B > rejected_B,
            "logps/chosen": chosen_B,
            "logps/rejected": rejected_B,
        }
        for name, values_B in of_pairs.items():
            self.tally.add(name, values_B.sum().item(), len(values_B))
        for name, mean in (("nll_loss", sft_loss), ("log_odds_ratio", log_ratio), ("log_odds_chosen", log_odds)):
            self.tally.add(name, mean.item())
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log what was measured in all processes."""
        self.tally.increase("num_tokens", self._total_train_tokens)
        super().log({**logs, **self.tally.take()}, *args, **kwargs)

    def _is_sft_label(self, batch: dict[str, Tensor]) -> Tensor:
        """(2B, T): tokens of the chosen rows that the SFT term is about."""
        is_label_2BT = batch["completion_mask" if self.loss_on == "response" else "attention_mask"] == 1
        is_label_2BT = is_label_2BT.clone()
        is_label_2BT[len(is_label_2BT) // 2 :] = False
        is_label_2BT[:, 0] = False
        return is_label_2BT

    def _note(self, output: Any, is_sft_2BS: Tensor, attention_2BT: Tensor) -> None:
        self._total_train_tokens += int(attention_2BT.sum().item())
        num_labels = int(is_sft_2BS.sum().item())
        self.tally.add("entropy", output.entropy[is_sft_2BS].sum().item(), num_labels)
        self.tally.add("mean_token_accuracy", output.is_top1[is_sft_2BS].sum().item(), num_labels)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Tensor]], device: torch.device) -> Tensor | None:
        """Labels of the whole step; with several processes the mean of theirs, since gradients are averaged."""
        if not batch_samples:
            return None
        num_labels = torch.stack([self._is_sft_label(batch).sum() for batch in batch_samples]).sum().to(device)
        return world.summed(num_labels) / world.size()


def make_trainer(task: OrpoSpec, run: Run, loaded: setup.Loaded) -> FineryOrpoTrainer:
    """A trainer that is ready to start or to resume."""
    disable_progress_bars()
    pairs = preference.pairs(run, task.data, loaded.tokenizer)
    visits = preference.visited(pairs, run, task.data, num=task.optim.steps, size=task.batch_size)
    arguments = {
        **setup.common_arguments(task.optim, task.model, run),
        **setup.batches(task.batch_size, task.micro_batch_size),
        "beta": task.beta,
        "max_length": task.data.max_tokens,
        "disable_dropout": True,
    }
    trainer = FineryOrpoTrainer(
        loaded.model,
        args=setup.with_native(ORPOConfig, arguments, task.native, unused=_UNUSED),
        # TRL rewrites what it is given row by row; the rows need none of that.
        train_dataset=visits.select([0]),
        processing_class=loaded.tokenizer,
        data_collator=Collator(loaded.tokenizer.pad_token_id),
        peft_config=loaded.lora,
    )
    trainer.train_dataset = visits
    trainer.loss_on = task.loss_on
    return trainer
