"""Log-probabilities of completions under a model, each distinct prompt and row computed once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from finery.models.caching import cache_kept, drops_cache


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model says of completions, where each of their tokens was drawn."""

    logprobs_BC: Tensor
    """Nats."""
    entropies_BC: Tensor
    """Nats."""
    hidden_BCH: Tensor | None
    """What goes into the language-model head, if it was asked for."""


def completion_logprobs(
    model: torch.nn.Module,
    ids_BT: Tensor,
    mask_BT: Tensor,
    num_completion: int,
    temperature: float,
    entropy_has_grad: bool,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies alone; see `read_completions`."""
    found = read_completions(model, ids_BT, mask_BT, num_completion, temperature, entropy_has_grad)
    return found.logprobs_BC, found.entropies_BC


def read_completions(
    model: torch.nn.Module,
    ids_BT: Tensor,
    mask_BT: Tensor,
    num_completion: int,
    temperature: float,
    entropy_has_grad: bool,
    *,
    with_hidden: bool = False,
) -> Reading:
    """Log-probability of the last `num_completion` tokens of each row, and the entropy where each was drawn.

    Equal rows are computed once, and so are equal prompts: their KV cache, with its gradient, is shared by the rows
    that begin with them. Gradient checkpointing takes the cache away; each row then computes its own prompt.

    Dimensions: B rows, T tokens, R distinct rows, P distinct prompts, C completion tokens, V vocabulary, H hidden.

    Args:
        model: Causal language model.
        ids_BT: Prompts padded on the left, completions on the right.
        mask_BT: 1 where a token counts.
        num_completion: C.
        temperature: Logits are divided by it, as when the tokens were drawn.
        entropy_has_grad: Whether the entropy is part of the loss.
        with_hidden: Give the last hidden states too, with their gradient: a value head reads them.
    """
    num_prompt = ids_BT.shape[1] - num_completion
    both_R2T, row_B = torch.stack([ids_BT * mask_BT, mask_BT], dim=1).unique(dim=0, return_inverse=True)
    ids_RT, mask_RT = both_R2T.unbind(dim=1)
    both_P2T, prompt_R = both_R2T[..., :num_prompt].unique(dim=0, return_inverse=True)
    prompt_ids_PT, prompt_mask_PT = both_P2T.unbind(dim=1)
    positions_RT = (mask_RT.cumsum(dim=1) - 1).clamp(min=0)

    if torch.is_grad_enabled() and drops_cache(model):
        found = _read_whole(model, (ids_RT, mask_RT), num_completion, temperature, entropy_has_grad, with_hidden)
        hidden_RCH = found.hidden_BCH
        return Reading(
            found.logprobs_BC[row_B], found.entropies_BC[row_B], None if hidden_RCH is None else hidden_RCH[row_B]
        )
    cache = DynamicCache()
    with cache_kept(model), _inputs_of_head(model, with_hidden) as hidden:
        first_PV = (
            model(
                input_ids=prompt_ids_PT,
                attention_mask=prompt_mask_PT,
                position_ids=(prompt_mask_PT.cumsum(dim=1) - 1).clamp(min=0),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            .logits[:, -1]
            .float()
            / temperature
        )
        first_total_P, first_entropy_P = _total_and_entropy(first_PV, entropy_has_grad)
        targets_RC = ids_RT[:, num_prompt:]
        logprobs = [(first_PV[prompt_R, targets_RC[:, 0]] - first_total_P[prompt_R])[:, None]]
        entropies = [first_entropy_P[prompt_R][:, None]]
        if num_completion > 1:
            cache.batch_select_indices(prompt_R)
            logits_RCV = (
                model(
                    input_ids=targets_RC[:, :-1],
                    attention_mask=mask_RT[:, :-1],
                    position_ids=positions_RT[:, num_prompt:-1],
                    past_key_values=cache,
                    use_cache=True,
                ).logits.float()
                / temperature
            )
            total_RC, entropy_RC = _total_and_entropy(logits_RCV, entropy_has_grad)
            logprobs.append(logits_RCV.gather(2, targets_RC[:, 1:, None])[..., 0] - total_RC)
            entropies.append(entropy_RC)
    hidden_BCH = None
    if with_hidden:
        hidden_BCH = torch.cat([hidden[0][prompt_R], *hidden[1:]], dim=1)[row_B]
    return Reading(torch.cat(logprobs, dim=1)[row_B], torch.cat(entropies, dim=1)[row_B], hidden_BCH)


def _read_whole(
    model: torch.nn.Module,
    ids_and_mask_BT: tuple[Tensor, Tensor],
    num_completion: int,
    temperature: float,
    entropy_has_grad: bool,
    with_hidden: bool,
) -> Reading:
    """`read_completions` in one pass over whole rows."""
    ids_BT, mask_BT = ids_and_mask_BT
    with _inputs_of_head(model, with_hidden) as hidden:
        logits_BCV = model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=(mask_BT.cumsum(dim=1) - 1).clamp(min=0),
            use_cache=False,
            logits_to_keep=num_completion + 1,
        ).logits[:, :-1]
    logits_BCV = logits_BCV.float() / temperature
    total_BC, entropies_BC = _total_and_entropy(logits_BCV, entropy_has_grad)
    targets_BC = ids_BT[:, -num_completion:]
    logprobs_BC = logits_BCV.gather(2, targets_BC[..., None])[..., 0] - total_BC
    return Reading(logprobs_BC, entropies_BC, hidden[0][:, :-1] if with_hidden else None)


@contextmanager
def _inputs_of_head(model: PreTrainedModel, is_wanted: bool) -> Iterator[list[Tensor]]:
    """Collects what goes into the language-model head: hidden states of the positions whose logits are kept."""
    seen: list[Tensor] = []
    if not is_wanted:
        yield seen
        return
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def _total_and_entropy(logits: Tensor, entropy_has_grad: bool) -> tuple[Tensor, Tensor]:
    """log sum exp and entropy over the last dimension."""
    total = logits.logsumexp(dim=-1)
    with torch.set_grad_enabled(entropy_has_grad and torch.is_grad_enabled()):
        entropy = total - ((logits - total[..., None]).exp() * logits).sum(dim=-1)
    return total, entropy
