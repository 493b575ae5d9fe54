"""Supervised fine-tuning with TRL's SFTTrainer."""

from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import SFTConfig, SFTTrainer

from finery.core.rundir import Run
from finery.training import rows as data
from finery.training.specs import SftSpec
from finery.training.tally import Tally
from finery.training.trl import packing, setup
from finery.training.trl.steps import ExactTrainer

_UNUSED = frozenset(
    {
        "assistant_only_loss",
        "chat_template_path",
        "completion_only_loss",
        "dataset_num_proc",
        "dataset_text_field",
        "eos_token",
        "eval_packing",
        "label_smoothing_factor",
        "loss_type",
        "model_init_kwargs",
        "packing_strategy",
        "pad_to_multiple_of",
        "pad_token",
        "padding_free",
        "router_aux_loss_coef",
        "shuffle_dataset",
        "truncation_mode",
        "trust_remote_code",
    }
)
"""Options of SFTConfig for what happens here without TRL: rows, masks, padding, loss."""

_NOTED_AT_ONCE = 128
"""Labels whose probabilities of all tokens are held in memory at once to measure their entropy."""


class FinerySftTrainer(ExactTrainer, SFTTrainer):
    """SFT that computes logits only in the columns where some row has a label; TRL on a CPU computes all.

    Packed rows of a step come as one batch, which is cut into passes here.

    Dimensions: B rows (1 if they are packed), T tokens, C columns with a label, N labels, V vocabulary.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, **kwargs: Any):
        self.tally = Tally()
        super().__init__(*args, **kwargs)

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Forward and backward; of packed rows, pass by pass."""
        if "passes" not in inputs:
            return super().training_step(model, inputs, num_items_in_batch)
        losses = []
        start = 0
        for lengths in inputs["passes"]:
            tokens = slice(start, start + sum(lengths))
            part = {name: inputs[name][:, tokens] for name in ("input_ids", "labels", "position_ids")}
            losses.append(super().training_step(model, {**part, "packed_lengths": lengths}, num_items_in_batch))
            start = tokens.stop
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Sum of the cross entropies of the labels over the number of labels of the whole step."""
        labels_BT = inputs["labels"]
        columns_C = (labels_BT != -100).any(dim=0).nonzero()[:, 0]
        columns_C = columns_C[columns_C > 0]
        targets_BC = labels_BT[:, columns_C]
        rows = {name: tensor for name, tensor in inputs.items() if name != "labels"}
        logits_BCV = model(**rows, use_cache=False, logits_to_keep=columns_C - 1).logits
        is_target_BC = targets_BC != -100
        logits_NV = logits_BCV.flatten(0, 1) if bool(is_target_BC.all()) else logits_BCV[is_target_BC]
        logits_NV, targets_N = logits_NV.float(), targets_BC[is_target_BC]
        losses_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none")
        self._note(logits_NV.detach(), targets_N)
        num_tokens = inputs["attention_mask"].sum().item() if "attention_mask" in inputs else labels_BT.numel()
        self._total_train_tokens += int(num_tokens)
        return losses_N.sum() / (len(targets_N) if num_items_in_batch is None else num_items_in_batch)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Tensor]], device: torch.device) -> Tensor | None:
        """Labels of the whole step that something predicts, whatever the class of the model says of its own loss; with
        several processes the mean of theirs, since gradients are averaged."""
        if not batch_samples:
            return None
        counts = [(batch["labels"][..., 1:] != -100).sum() for batch in batch_samples]
        mean: Tensor = self.accelerator.reduce(torch.stack(counts).sum().float().to(device), reduction="mean")
        return mean

    def _note(self, logits_NV: Tensor, targets_N: Tensor) -> None:
        """Means over all labels of the step, whichever pass they are in."""
        entropy = 0.0
        for logprobs_NV in (part.log_softmax(dim=-1) for part in logits_NV.split(_NOTED_AT_ONCE)):
            entropy -= (logprobs_NV.exp() * logprobs_NV).sum().item()
        num_right = (logits_NV.argmax(dim=-1) == targets_N).sum().item()
        self.tally.add("entropy", entropy, len(targets_N))
        self.tally.add("mean_token_accuracy", num_right, len(targets_N))

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log what was measured in all processes."""
        self.tally.increase("num_tokens", self._total_train_tokens)
        super().log({**logs, **self.tally.take()}, *args, **kwargs)


def make_trainer(task: SftSpec, run: Run, loaded: setup.Loaded) -> FinerySftTrainer:
    """A trainer that is ready to start or to resume."""
    rows = data.read_rows(run, task.data.train)
    examples, num_dropped = data.examples(
        rows, loaded.tokenizer, loss_on=task.loss_on, max_tokens=task.data.max_tokens, ref=task.data.train
    )
    if num_dropped:
        run.note(
            f"{num_dropped} of {len(rows)} rows were left out: data.max_tokens cuts all of their response", "warning"
        )
    visits = data.visits(run.spec, len(examples), num=task.optim.steps, size=task.batch_size, shuffle=task.data.shuffle)
    columns = {"input_ids": [e.input_ids for e in examples], "labels": [e.labels for e in examples]}
    if task.packing:
        packing.prepare(loaded.model)
    arguments = {
        **setup.common_arguments(task.optim, task.model, run),
        **setup.batches(task.batch_size, None if task.packing else task.micro_batch_size),
        "packing": False,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    return FinerySftTrainer(
        loaded.model,
        args=setup.with_native(SFTConfig, arguments, task.native, unused=_UNUSED),
        train_dataset=Dataset.from_dict(columns).select(visits),
        processing_class=loaded.tokenizer,
        data_collator=(
            _Packer(task.data.max_tokens, task.micro_batch_size)
            if task.packing
            else _Collator(loaded.tokenizer.pad_token_id)
        ),
        peft_config=loaded.lora,
    )


class _Collator:
    """Pads on the right, with masks from lengths: padding may be the same token as the end of sequence."""

    def __init__(self, pad_id: int):
        self._pad_id = pad_id

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Tensor]:
        longest = max(len(feature["input_ids"]) for feature in features)
        return {
            "input_ids": _padded([f["input_ids"] for f in features], longest, self._pad_id),
            "labels": _padded([f["labels"] for f in features], longest, -100),
            "attention_mask": _padded([[1] * len(f["input_ids"]) for f in features], longest, 0),
        }


class _Packer:
    """Puts the rows of a step behind each other, and says where one pass ends and the next begins."""

    def __init__(self, max_tokens: int, max_rows: int | None):
        self._max_tokens = max_tokens
        self._max_rows = max_rows

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        lengths = [len(feature["input_ids"]) for feature in features]
        passes = packing.bins(lengths, max_tokens=self._max_tokens, max_rows=self._max_rows)
        rows = [features[row] for rows_of_pass in passes for row in rows_of_pass]
        return {
            "input_ids": torch.cat([torch.tensor(row["input_ids"]) for row in rows])[None],
            # What comes first in a row has no context; its own, not the end of the row before.
            "labels": torch.cat([torch.tensor([-100, *row["labels"][1:]]) for row in rows])[None],
            "position_ids": packing.positions([len(row["input_ids"]) for row in rows]),
            "passes": [[lengths[row] for row in rows_of_pass] for rows_of_pass in passes],
        }


def _padded(rows: list[list[int]], length: int, value: int) -> Tensor:
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])
