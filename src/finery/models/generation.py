"""Batched generation with a KV cache: token ids in, token ids out.

Owns: prefilling, the decode loop, sampling, when a row has ended, and what the next turn of a conversation need not
compute again. Does not own: chat templates and decoding to text (the caller's tokenizer), devices, or the model's
train/eval mode.

The one generator that rollouts, evaluation and chat share. It does the same as `transformers.generate` for the few
options we need, and less work for what we do most, which is to sample groups of short answers:

* rows that have the same tokens so far are computed once: a group's prompt is prefilled once, and its rows part company
  only where they draw different tokens;
* what all prompts of a batch begin with (a system prompt, the chat header) is prefilled once per batch;
* only the last position goes through the language-model head;
* rows that have ended leave the batch, so that one long row does not keep the others' cost alive.

The mode of the model is left alone on purpose: an eval-mode forward repacks 4-bit bitsandbytes weights on CPU and
silently ends their training. Call `model.eval()` yourself where dropout matters.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from finery.models.caching import cache_kept
from finery.models.skinny import side_by_side

TokenIds = Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen and when a completion ends."""

    max_new_tokens: int
    """Longest completion, in tokens, the stop token included."""
    stop_ids: frozenset[int] = frozenset()
    """A completion ends with the first of these; it is kept as its last token."""
    temperature: float = 0.0
    """0 takes the most likely token (greedy). Otherwise logits are divided by it."""
    top_k: int = 0
    """Sample among this many most likely tokens only. 0 is no limit."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens whose probability adds up to this."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"need temperature >= 0, top_k >= 0 and 0 < top_p <= 1, got {self}")


@dataclass(slots=True)
class Completion:
    """What the model wrote after one prompt."""

    token_ids: list[int] = field(default_factory=list)
    """The new tokens, up to and including the stop token."""
    logprobs: list[float] = field(default_factory=list)
    """Log-probability of each token under the distribution it was drawn from; empty unless asked for."""
    is_finished: bool = False
    """Whether it ended with a stop token, rather than at `max_new_tokens`."""
    policy_logprobs: list[float] | None = None
    """Log-probability of each token under the model at this temperature, before top_k and top_p; None unless asked
    for."""
    entropies: list[float] | None = None
    """Entropy of that distribution where each token was drawn, in nats; None unless asked for."""


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[TokenIds],
    sampling: Sampling,
    *,
    generator: torch.Generator | None = None,
    batch_size: int = 256,
    with_logprobs: bool = False,
    num_watched: int = 0,
) -> list[Completion]:
    """Continue each prompt; the result is in the order of `prompts`.

    To sample a group, repeat its prompt: identical prompts cost one prefill. `batch_size` is the number of rows decoded
    together; rows are sorted by prompt length first, so batches have little padding. With the same `generator` state
    and the same arguments the result is the same (on one machine and thread count: matrix products round differently
    with other batch shapes). The first `num_watched` completions also tell `policy_logprobs` and `entropies`.
    """
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt has no tokens; give at least a beginning-of-sequence token")
    completions = [Completion() for _ in prompts]
    for completion in completions[:num_watched]:
        completion.policy_logprobs, completion.entropies = [], []
    with cache_kept(model), side_by_side(model):
        for rows in _batches(prompts, batch_size):
            batch = [prompts[row] for row in rows]
            found = [completions[row] for row in rows]
            distinct: dict[tuple[int, ...], int] = {}
            state_B = torch.tensor([distinct.setdefault(tuple(prompt), len(distinct)) for prompt in batch])
            for _ in _decode(model, prefill(model, list(distinct)), state_B, found, sampling, generator, with_logprobs):
                pass
    return completions


@dataclass(slots=True)
class Past:
    """What a conversation has been computed for, so that its next turn costs its new tokens only. Of one model."""

    token_ids: list[int] = field(default_factory=list)
    """The tokens that `cache` holds keys and values of."""
    cache: DynamicCache | None = None
    num_reused: int = 0
    """Tokens of the newest prompt that were there already."""


@torch.inference_mode()
def stream(
    model: PreTrainedModel,
    prompt: TokenIds,
    sampling: Sampling,
    *,
    generator: torch.Generator | None = None,
    past: Past | None = None,
) -> Generator[int]:
    """Continue one prompt, giving each token as soon as it is drawn: those that `generate` draws.

    What the prompt has in common with `past` is not computed again; afterwards `past` holds this prompt and its
    completion. Whoever stops asking ends the completion there.
    """
    if not prompt:
        raise ValueError("a prompt has no tokens; give at least a beginning-of-sequence token")
    past = Past() if past is None else past
    completion = Completion()
    logits_SV, cache, mask_ST = _prefill_after(model, prompt, past)
    past.token_ids, past.cache = [], None
    try:
        start = (logits_SV, cache, mask_ST)
        for _ in _decode(model, start, torch.zeros(1, dtype=torch.long), [completion], sampling, generator, False):
            yield completion.token_ids[-1]
    finally:
        # The newest token has not been through the model.
        seen = [*prompt, *completion.token_ids]
        past.token_ids, past.cache = seen[: cache.get_seq_length()], cache


def _prefill_after(model: PreTrainedModel, prompt: TokenIds, past: Past) -> tuple[Tensor, DynamicCache, Tensor]:
    """As `prefill` of one prompt, on from what is computed already."""
    pairs = zip(prompt[:-1], past.token_ids, strict=False)
    limit = min(len(prompt) - 1, len(past.token_ids))
    shared = next((i for i, (own, computed) in enumerate(pairs) if own != computed), limit)
    cache = past.cache
    # Other kinds of layers forget, and cannot go back.
    past.num_reused = shared if cache is not None and all(type(layer) is DynamicLayer for layer in cache.layers) else 0
    if cache is None or not past.num_reused:
        return prefill(model, [prompt])
    cache.crop(shared - len(past.token_ids))
    device = model.get_input_embeddings().weight.device
    mask_ST = torch.ones(1, len(prompt), dtype=torch.long, device=device)
    output = model(
        input_ids=torch.tensor([list(prompt[shared:])], device=device),
        attention_mask=mask_ST,
        position_ids=torch.arange(shared, len(prompt), device=device)[None],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1], cache, mask_ST


def _batches(prompts: Sequence[TokenIds], batch_size: int) -> Iterator[list[int]]:
    """Row numbers, sorted by prompt length and content, in runs of `batch_size`."""
    order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), tuple(prompts[row])))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _decode(
    model: PreTrainedModel,
    start: tuple[Tensor, DynamicCache, Tensor],
    state_B: Tensor,
    completions: Sequence[Completion],
    sampling: Sampling,
    generator: torch.Generator | None,
    with_logprobs: bool,
) -> Iterator[None]:
    """Decode one batch from its prefilled prompts, appending to its `completions` in place; pauses after each token.

    Dimensions: B rows (completions that have not ended), S states (distinct token sequences among them), T tokens, V
    vocabulary. The model sees states; `state_B` says which one a row is in.
    """
    logits_SV, cache, mask_ST = start
    positions_S = mask_ST.sum(dim=1)
    device = mask_ST.device
    state_B = state_B.to(device)
    alive = list(completions)
    for step in range(1, sampling.max_new_tokens + 1):
        tokens_B, logprobs_B = _choose(logits_SV, state_B, sampling, generator, with_logprobs)
        for completion, token in zip(alive, tokens_B.tolist(), strict=True):
            completion.token_ids.append(token)
            completion.is_finished = token in sampling.stop_ids
        if logprobs_B is not None:
            for completion, logprob in zip(alive, logprobs_B.tolist(), strict=True):
                completion.logprobs.append(logprob)
        _watch(alive, logits_SV, state_B, tokens_B, sampling.temperature)
        yield
        going = [row for row, completion in enumerate(alive) if not completion.is_finished]
        if not going or step == sampling.max_new_tokens:
            return
        alive = [alive[row] for row in going]
        steps_B2 = torch.stack([state_B, tokens_B], dim=1)[torch.tensor(going, device=device)]
        steps_S2, state_B = steps_B2.unique(dim=0, return_inverse=True)
        parent_S, tokens_S = steps_S2.unbind(dim=1)
        if parent_S.tolist() != list(range(len(mask_ST))):
            cache.batch_select_indices(parent_S)
            positions_S, mask_ST = positions_S[parent_S], mask_ST[parent_S]
        mask_ST = torch.cat([mask_ST, mask_ST.new_ones(len(parent_S), 1)], dim=1)
        logits_SV = model(
            input_ids=tokens_S[:, None],
            attention_mask=mask_ST,
            position_ids=positions_S[:, None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        positions_S = positions_S + 1


def _watch(
    alive: Sequence[Completion], logits_SV: Tensor, state_B: Tensor, tokens_B: Tensor, temperature: float
) -> None:
    """Note, in those that ask for it, what the distribution was before it was cut. W: states that they are in."""
    asking = [(row, one.policy_logprobs, one.entropies) for row, one in enumerate(alive)]
    watched = [(row, own, entropies) for row, own, entropies in asking if own is not None and entropies is not None]
    if not watched:
        return
    rows = torch.tensor([row for row, _, _ in watched], device=logits_SV.device)
    states_W, place = state_B[rows].unique(return_inverse=True)
    logprobs_WV = (logits_SV[states_W].float() / (temperature or 1.0)).log_softmax(dim=-1)
    entropies_W = torch.special.entr(logprobs_WV.exp()).sum(dim=-1)
    chosen, spread = logprobs_WV[place, tokens_B[rows]].tolist(), entropies_W[place].tolist()
    for (_, own, entropies), logprob, entropy in zip(watched, chosen, spread, strict=True):
        own.append(logprob)
        entropies.append(entropy)


def prefill(model: PreTrainedModel, prompts: Sequence[TokenIds]) -> tuple[Tensor, DynamicCache, Tensor]:
    """Run distinct prompts: next-token logits (S, V), KV cache, and attention mask (S, T).

    Carries gradients if they are on: training uses it to run a group's prompt once. Rows are left-padded after it
    that they all share.
    """
    device = model.get_input_embeddings().weight.device
    cache = DynamicCache(config=model.config)
    shared = common_prefix_length(prompts)
    if shared:
        prefill_shared(model, torch.tensor([prompts[0][:shared]], device=device), cache, len(prompts))
    ids_ST, own_mask_ST = left_pad([prompt[shared:] for prompt in prompts], device)
    mask_ST = torch.cat([own_mask_ST.new_ones(len(prompts), shared), own_mask_ST], dim=1)
    output = model(
        input_ids=ids_ST,
        attention_mask=mask_ST,
        position_ids=(mask_ST.cumsum(dim=1) - 1).clamp(min=0)[:, shared:],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1], cache, mask_ST


def prefill_shared(model: PreTrainedModel, ids_1T: Tensor, cache: DynamicCache, rows: int) -> None:
    """Put one prefix into an empty cache, for `rows` rows that begin with it."""
    model(input_ids=ids_1T, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(rows)


def common_prefix_length(prompts: Sequence[TokenIds]) -> int:
    """Tokens that all prompts begin with, leaving each at least one token of its own. 0 for a single prompt."""
    if len(prompts) < 2:
        return 0
    rows = [tuple(prompt) for prompt in prompts]
    first, last = min(rows), max(rows)  # the two that differ first, in lexicographic order
    limit = min(len(prompt) for prompt in prompts) - 1
    return next((i for i in range(limit) if first[i] != last[i]), limit)


def left_pad(rows: Sequence[TokenIds], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both (rows, longest). Padding is token 0 and always masked."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def _choose(
    logits_SV: Tensor, state_B: Tensor, sampling: Sampling, generator: torch.Generator | None, with_logprobs: bool
) -> tuple[Tensor, Tensor | None]:
    """The next token of each row and, if asked for, its log-probability."""
    logits_SV = logits_SV.float()
    if sampling.temperature == 0:
        tokens_B = logits_SV.argmax(dim=-1)[state_B]
    else:
        logits_SV = truncate(logits_SV / sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p)
        tokens_B = draw(logits_SV.softmax(dim=-1), state_B, generator)
    if not with_logprobs:
        return tokens_B, None
    return tokens_B, logits_SV.log_softmax(dim=-1)[state_B, tokens_B]


def draw(probs_SV: Tensor, state_B: Tensor, generator: torch.Generator | None) -> Tensor:
    """One token per row, from the distribution of its state, with one random number each (inverse transform).

    `torch.multinomial` draws one random number per row and vocabulary entry, in one thread on a CPU: with 256 rows of a
    49,152-token vocabulary that took a fifth of a training step.
    """
    cumulative_SV = probs_SV.cumsum(dim=-1)
    total_S = cumulative_SV[:, -1]
    uniform_B = torch.rand(len(state_B), generator=generator, device=probs_SV.device)
    # Strictly below the total, so that a token of probability zero at the end is never drawn.
    below_S = torch.nextafter(total_S, torch.zeros_like(total_S))
    target_B = torch.minimum(uniform_B * total_S[state_B], below_S[state_B])
    return torch.searchsorted(cumulative_SV[state_B], target_B[:, None], right=True)[:, 0]


def truncate(logits_BV: Tensor, *, top_k: int, top_p: float) -> Tensor:
    """Set the logits that may not be sampled to -inf. The most likely token always stays."""
    if 0 < top_k < logits_BV.shape[-1]:
        smallest_kept = logits_BV.topk(top_k, dim=-1).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < smallest_kept, -torch.inf)
    if top_p < 1:
        sorted_BV, order_BV = logits_BV.sort(dim=-1, descending=True)
        probs_BV = sorted_BV.softmax(dim=-1)
        mass_before_BV = probs_BV.cumsum(dim=-1) - probs_BV
        drop_BV = torch.zeros_like(logits_BV, dtype=torch.bool).scatter(1, order_BV, mass_before_BV >= top_p)
        logits_BV = logits_BV.masked_fill(drop_BV, -torch.inf)
    return logits_BV
