"""Scores of answers by a reward model: one number for a prompt and its answer."""

from collections.abc import Sequence

import torch

from finery.core.rundir import ResolvedInput
from finery.models import chat, loading


class RewardModelScorer:
    """A reward model in memory."""

    def __init__(self, resolved: ResolvedInput, ref: str, *, dtype: str, batch_size: int, max_tokens: int):
        """Load it.

        Args:
            resolved: What the reference stands for.
            ref: The reference as written.
            dtype: As of `loading.load_reward_model`.
            batch_size: Answers per forward pass.
            max_tokens: Longer conversations are cut on the left.
        """
        path = loading.materialize(resolved, ref)
        self._batch_size = batch_size
        self._max_tokens = max_tokens
        self._tokenizer = loading.load_tokenizer(path)
        self._model = loading.load_reward_model(path, dtype=dtype).eval().requires_grad_(False)
        if dtype not in loading.QUANTIZED:
            self._model.to(loading.device())
        # The head reads the last token that is not this one.
        self._pad_id = self._model.config.get_text_config().pad_token_id
        if self._pad_id is None:
            self._pad_id = self._model.config.get_text_config().pad_token_id = self._tokenizer.pad_token_id

    @property
    def num_bytes(self) -> int:
        """Weights and buffers in memory."""
        return int(self._model.get_memory_footprint())

    @torch.inference_mode()
    def score(self, prompts: Sequence[str | list[chat.Message]], answers: Sequence[str]) -> list[float]:
        """One score per answer, in order.

        Args:
            prompts: Text or messages of each.
            answers: What was answered.
        """
        ids = [self._render(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        by_length = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        found = [0.0] * len(ids)
        for start in range(0, len(ids), self._batch_size):
            batch = by_length[start : start + self._batch_size]
            for index, score in zip(batch, self._forward([ids[index] for index in batch]), strict=True):
                found[index] = score
        return found

    def _render(self, prompt: str | list[chat.Message], answer: str) -> list[int]:
        """The conversation as the model was trained to read it: to the end of the answer's turn."""
        prompt_ids, answer_ids = chat.render_completion(self._tokenizer, prompt, answer)
        return (prompt_ids + answer_ids)[-self._max_tokens :]

    def _forward(self, batch: list[list[int]]) -> list[float]:
        longest = max(map(len, batch))
        ids_BT = torch.tensor([ids + [self._pad_id] * (longest - len(ids)) for ids in batch])
        mask_BT = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in batch])
        place = self._model.device
        logits_B1 = self._model(input_ids=ids_BT.to(place), attention_mask=mask_BT.to(place)).logits
        scores: list[float] = logits_B1[:, 0].float().tolist()
        return scores
