"""The generator against transformers' own, and what sampling promises."""

from itertools import islice
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from finery.models.generation import Completion, Past, Sampling, generate, stream, truncate

TEXTS = ["1+1=", "12+34=", "1", "The quick brown fox jumps", "12+3", "1+1=", "\n", "zzzzzzzzzzzzzzzzzzzz 77"]


@pytest.fixture
def prompts(tiny_tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Mixed lengths, one twice, some with a common beginning."""
    return [tiny_tokenizer(text)["input_ids"] for text in TEXTS]


@pytest.fixture(scope="module")
def model(tiny: PreTrainedModel) -> PreTrainedModel:
    """Weights apart enough that the most likely token is not a matter of rounding."""
    torch.manual_seed(0)
    made = type(tiny)(tiny.config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)
    return made


def tokens(completions: list[Completion]) -> list[list[int]]:
    return [completion.token_ids for completion in completions]


def reference(model: PreTrainedModel, prompt: list[int], **options: object) -> list[int]:
    """What transformers writes after the prompt alone."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0, use_cache=True, **options
    )
    return output[0, len(prompt) :].tolist()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_greedy_writes_what_transformers_writes(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    found = tokens(generate(model, prompts, Sampling(max_new_tokens=24)))

    options = {"max_new_tokens": 24, "min_new_tokens": 24, "eos_token_id": None}
    assert found == [reference(model, prompt, **options) for prompt in prompts]
    assert len({tuple(row) for row in found}) > 3


def test_greedy_stops_where_transformers_stops(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    free = tokens(generate(model, prompts, Sampling(max_new_tokens=24)))
    stop = frozenset({free[0][5], free[1][2], free[3][7]})

    found = tokens(generate(model, prompts, Sampling(max_new_tokens=24, stop_ids=stop)))

    assert found == [reference(model, p, max_new_tokens=24, eos_token_id=sorted(stop)) for p in prompts]


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_each_row_is_the_row_alone(model: PreTrainedModel, prompts: list[list[int]], batch_size: int) -> None:
    sampling = Sampling(max_new_tokens=16)

    together = tokens(generate(model, prompts, sampling, batch_size=batch_size))

    assert together == [tokens(generate(model, [prompt], sampling))[0] for prompt in prompts]


def test_the_log_probabilities_are_those_of_a_plain_forward(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    sampling = Sampling(max_new_tokens=8, temperature=0.7)
    found = generate(model, prompts, sampling, generator=seeded(1), with_logprobs=True)

    for prompt, completion in zip(prompts, found, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + completion.token_ids])).logits[0, len(prompt) - 1 : -1]
        expected = (logits / 0.7).log_softmax(dim=-1).gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_what_is_watched_is_told_of_the_whole_distribution(
    model: PreTrainedModel, prompts: list[list[int]], temperature: float
) -> None:
    sampling = Sampling(max_new_tokens=8, temperature=temperature, top_k=3, top_p=0.9)
    plain = generate(model, prompts, sampling, generator=seeded(1))
    found = generate(model, prompts, sampling, generator=seeded(1), num_watched=2)

    assert tokens(found) == tokens(plain)
    assert [one.entropies is None for one in found] == [False, False, *[True] * (len(prompts) - 2)]
    for prompt, completion in list(zip(prompts, found, strict=True))[:2]:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + completion.token_ids])).logits[0, len(prompt) - 1 : -1]
        whole = torch.distributions.Categorical(logits=logits / (temperature or 1.0))
        expected = whole.log_prob(torch.tensor(completion.token_ids))
        torch.testing.assert_close(torch.tensor(completion.policy_logprobs), expected, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(torch.tensor(completion.entropies), whole.entropy(), atol=1e-3, rtol=1e-3)


def test_sampling_is_the_same_with_the_same_generator(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    sampling = Sampling(max_new_tokens=12, temperature=1.0)

    first = tokens(generate(model, prompts, sampling, generator=seeded(3)))

    assert tokens(generate(model, prompts, sampling, generator=seeded(3))) == first
    assert tokens(generate(model, prompts, sampling, generator=seeded(4))) != first


def test_sampling_neither_reads_nor_moves_the_global_generator(
    model: PreTrainedModel, prompts: list[list[int]]
) -> None:
    sampling = Sampling(max_new_tokens=12, temperature=1.0)
    torch.manual_seed(1)
    first = tokens(generate(model, prompts, sampling, generator=seeded(3)))
    torch.manual_seed(2)
    before = torch.get_rng_state()

    second = tokens(generate(model, prompts, sampling, generator=seeded(3)))

    assert second == first
    assert torch.equal(torch.get_rng_state(), before)


def test_a_repeated_prompt_is_sampled_independently(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    sampling = Sampling(max_new_tokens=8, temperature=1.5)

    found = tokens(generate(model, [prompts[0]] * 8, sampling, generator=seeded(0)))

    assert len({tuple(row) for row in found}) > 4


def test_samples_follow_the_distribution_of_the_model(tiny: PreTrainedModel, prompts: list[list[int]]) -> None:
    num = 20_000
    with torch.no_grad():
        probs = tiny(input_ids=torch.tensor([prompts[1]])).logits[0, -1].softmax(dim=-1)

    sampling = Sampling(max_new_tokens=1, temperature=1.0)
    found = generate(tiny, [prompts[1]] * num, sampling, generator=seeded(5), batch_size=num)

    counts = torch.bincount(torch.tensor([row.token_ids[0] for row in found]), minlength=len(probs))
    deviation = (counts - num * probs) / (num * probs * (1 - probs)).sqrt()
    assert deviation.abs().max() < 5


def test_top_k_of_one_is_greedy(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    greedy = generate(model, prompts, Sampling(max_new_tokens=12))

    found = generate(model, prompts, Sampling(max_new_tokens=12, temperature=1.0, top_k=1), generator=seeded(0))

    assert tokens(found) == tokens(greedy)


def test_a_tiny_top_p_is_greedy(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    greedy = generate(model, prompts, Sampling(max_new_tokens=12))

    found = generate(model, prompts, Sampling(max_new_tokens=12, temperature=1.0, top_p=1e-6), generator=seeded(0))

    assert tokens(found) == tokens(greedy)


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 1.0, [0, 1, 2, 3]),
        (2, 1.0, [0, 1]),
        (9, 1.0, [0, 1, 2, 3]),
        (0, 0.45, [0]),
        (0, 0.55, [0, 1]),
        (0, 0.85, [0, 1, 2]),
        (2, 0.85, [0, 1]),
    ],
)
def test_truncation_keeps_the_smallest_set_that_is_large_enough(top_k: int, top_p: float, kept: list[int]) -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()

    found = truncate(logits, top_k=top_k, top_p=top_p)

    assert found.isfinite()[0].nonzero()[:, 0].tolist() == kept


def test_a_completion_that_reached_the_limit_is_not_finished(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    [free] = generate(model, [prompts[0]], Sampling(max_new_tokens=6))
    stop = free.token_ids[3]
    num = free.token_ids.index(stop) + 1

    [stopped] = generate(model, [prompts[0]], Sampling(max_new_tokens=6, stop_ids=frozenset({stop})))
    [exact] = generate(model, [prompts[0]], Sampling(max_new_tokens=num, stop_ids=frozenset({stop})))
    [limited] = generate(model, [prompts[0]], Sampling(max_new_tokens=6, stop_ids=frozenset({10**6})))

    assert (stopped.is_finished, stopped.token_ids) == (True, free.token_ids[:num])
    assert exact.is_finished
    assert (limited.is_finished, len(limited.token_ids)) == (False, 6)


def test_the_mode_of_the_model_is_left_alone(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    model.train()
    generate(model, prompts, Sampling(max_new_tokens=2))
    assert model.training
    model.eval()


def test_no_prompts_give_no_completions(model: PreTrainedModel) -> None:
    assert generate(model, [], Sampling(max_new_tokens=2)) == []


def test_a_prompt_without_tokens_is_refused(model: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match="no tokens"):
        generate(model, [[1], []], Sampling(max_new_tokens=2))


@pytest.mark.parametrize(
    "options",
    [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}],
)
def test_sampling_that_means_nothing_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="max_new_tokens|temperature"):
        Sampling(**{"max_new_tokens": 1, **options})


def test_a_stream_draws_what_generate_draws(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    for temperature in (0.0, 1.0):
        sampling = Sampling(max_new_tokens=16, temperature=temperature, top_k=20, top_p=0.9)
        [whole] = generate(model, [prompts[3]], sampling, generator=seeded(3))

        assert list(stream(model, prompts[3], sampling, generator=seeded(3))) == whole.token_ids


def test_a_stream_ends_with_the_stop_token(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    [free] = generate(model, [prompts[0]], Sampling(max_new_tokens=16))
    stop = free.token_ids[4]

    found = list(stream(model, prompts[0], Sampling(max_new_tokens=16, stop_ids=frozenset({stop}))))

    assert found == free.token_ids[: free.token_ids.index(stop) + 1]


@pytest.mark.parametrize("taken", [1, 5, 12])
def test_the_next_turn_computes_only_what_is_new(
    model: PreTrainedModel, prompts: list[list[int]], taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = Past()
    sampling = Sampling(max_new_tokens=12)
    answer = list(islice(stream(model, prompts[3], sampling, past=past), taken))
    turn = [*prompts[3], *answer, *prompts[7]]
    lengths: list[int] = []
    forward = type(model).forward

    def counted(own: PreTrainedModel, *args: Any, **options: Any) -> Any:
        lengths.append(options["input_ids"].shape[1])
        return forward(own, *args, **options)

    monkeypatch.setattr(type(model), "forward", counted)
    found = list(stream(model, turn, sampling, past=past))
    computed = list(lengths)

    assert past.num_reused == len(prompts[3]) + taken - 1
    assert computed[0] == len(prompts[7]) + 1  # the last token of an answer was drawn, not read
    assert found == list(stream(model, turn, sampling))


def test_an_edited_conversation_goes_back_to_where_it_parts(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    past = Past()
    sampling = Sampling(max_new_tokens=12)
    list(stream(model, prompts[3], sampling, past=past))

    for prompt in ([*prompts[3][:6], *prompts[1]], prompts[3], prompts[3][:4], prompts[6]):
        assert list(stream(model, prompt, sampling, past=past)) == list(stream(model, prompt, sampling))
        assert past.cache is not None
        assert past.cache.get_seq_length() == len(past.token_ids)
