"""Reference numbers of TRL 1.12.0, the last release with PPO: two batches of rollouts, every optimizer step of each.

Uses nothing of this project. Prints JSON; how it was made:

    pip install --no-deps --target trl112 trl==1.12.0
    PYTHONPATH=trl112 python ppo_trl_1_12.py > ppo_trl_1_12.json

Weights come from sines, so that no random number generator is part of the numbers. Completions are given, not drawn:
in `full` each has the greatest length, in `mixed` some end early, where TRL counts one more step than tokens. What the
trainer keeps in local variables is read from its frame at its two calls of `masked_whiten`.
"""

import contextlib
import json
import sys
import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

VOCABULARY, PAD, EOS = 24, 0, 1
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": EOS,
    "pad_token_id": PAD,
}
SETTINGS = {
    "learning_rate": 0.02,
    "adam_epsilon": 1e-3,
    "gamma": 0.98,
    "lam": 0.9,
    "cliprange": 0.1,
    "cliprange_value": 0.05,
    "vf_coef": 0.5,
    "kl_coef": 0.2,
    "temperature": 0.8,
    "missing_eos_penalty": 0.5,
    "num_ppo_epochs": 2,
    "num_mini_batches": 2,
}
NUM_ROWS, NUM_PROMPT, NUM_COMPLETION = 16, 3, 5
LENGTHS = {"full": [5] * NUM_ROWS, "mixed": [5, 2, 4, 1, 3, 5, 2, 4, 3, 3, 1, 5, 4, 2, 5, 1]}


def waved(model: torch.nn.Module, phase: float) -> torch.nn.Module:
    """Set each matrix to a sine of its entries' numbers; norms stay 1."""
    with torch.no_grad():
        for number, (_, parameter) in enumerate(sorted(model.named_parameters())):
            if parameter.dim() > 1:
                steps = torch.arange(parameter.numel(), dtype=torch.float64)
                wave = 0.4 * torch.sin(steps * 1.7 + number + phase)
                parameter.copy_(wave.view_as(parameter))
    return model


def rollouts(kind: str) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and completions; those that are not cut off end with EOS."""
    prompts, completions = [], []
    for row, length in enumerate(LENGTHS[kind]):
        tokens = [2 + (7 * row + 5 * place + row * place) % (VOCABULARY - 2) for place in range(NUM_PROMPT + length)]
        if length < NUM_COMPLETION:
            tokens[-1] = EOS
        prompts.append(tokens[:NUM_PROMPT])
        completions.append(tokens[NUM_PROMPT:])
    return prompts, completions


def tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{number}": number for number in range(VOCABULARY)}
    made = Tokenizer(models.WordLevel(vocab=words, unk_token="w2"))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="w0", eos_token="w1", unk_token="w2", padding_side="left"
    )


def plain(value: object) -> object:
    return value.tolist() if isinstance(value, torch.Tensor) else value


class Recorder:
    """Puts given completions in the place of drawn ones, and writes down what the trainer makes of them."""

    def __init__(self, kind: str):
        self.completion_of = dict(zip(map(tuple, rollouts(kind)[0]), rollouts(kind)[1], strict=True))
        self.found: dict = {"orders": [], "grad_norms": [], "whitened": []}
        self._whiten, self._permutation = ppo_trainer.masked_whiten, ppo_trainer.np.random.permutation

    def batch_generation(self, model, queries, _batch_size, pad_token_id, _config):
        completions = [self.completion_of[tuple(query)] for query in queries.tolist()]
        self.found["prompts"], self.found["completions"] = queries.tolist(), completions
        padded = [one + [pad_token_id] * (NUM_COMPLETION - len(one)) for one in completions]
        both = torch.cat([queries, torch.tensor(padded)], dim=1)
        output = ppo_trainer.forward(model, both, pad_token_id)
        return both, output.logits[:, NUM_PROMPT - 1 : -1] / (SETTINGS["temperature"] + 1e-7)

    def masked_whiten(self, values, mask, shift_mean=True):
        whitened = self._whiten(values, mask, shift_mean)
        self.found["whitened"].append({"before": plain(values), "mask": plain(mask.int()), "after": plain(whitened)})
        seen = sys._getframe(1).f_locals
        names = ("scores", "logprobs", "ref_logprobs", "values", "kl", "rewards", "returns", "padding_mask")
        self.found |= {name: plain(seen[name]) for name in (*names, "padding_mask_p1") if name in seen}
        return whitened

    def permutation(self, num):
        order = self._permutation(num)
        self.found["orders"].append(order.tolist())
        return order

    def watch(self, trainer: PPOTrainer) -> None:
        """Take down the gradient's norm at each optimizer step, and the statistics of each."""
        step = trainer.optimizer.step

        def watched(*args, **kwargs):
            self.found["grad_norms"].append(
                torch.stack([p.grad.norm() for p in trainer.model.parameters() if p.grad is not None]).norm().item()
            )
            return step(*args, **kwargs)

        def log(metrics, *_):
            seen = sys._getframe(1).f_locals
            names = ("pg_loss_stats", "vf_loss_stats", "entropy_stats", "pg_clipfrac_stats", "vf_clipfrac_stats")
            self.found["steps"] = {name.removesuffix("_stats"): plain(seen[name].flatten()) for name in names}

        trainer.optimizer.step = watched
        trainer.log = log


def run(kind: str, *, whiten_rewards: bool, kl_estimator: str) -> dict:
    """One batch of rollouts through TRL's trainer."""
    torch.manual_seed(0)
    ppo_trainer.np.random.seed(0)
    recorder = Recorder(kind)
    ppo_trainer.batch_generation = recorder.batch_generation
    ppo_trainer.masked_whiten = recorder.masked_whiten
    ppo_trainer.np.random.permutation = recorder.permutation
    config = Qwen3Config(**SHAPE)
    scored = Qwen3Config(**SHAPE, num_labels=1)
    with tempfile.TemporaryDirectory() as folder:
        arguments = PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=NUM_ROWS,
            gradient_accumulation_steps=1,
            total_episodes=NUM_ROWS,
            response_length=NUM_COMPLETION,
            whiten_rewards=whiten_rewards,
            kl_estimator=kl_estimator,
            stop_token="eos",
            local_rollout_forward_batch_size=NUM_ROWS,
            num_sample_generations=0,
            optim="adamw_torch",
            lr_scheduler_type="constant",
            weight_decay=0.0,
            bf16=False,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            **SETTINGS,
        )
        trainer = PPOTrainer(
            args=arguments,
            processing_class=tokenizer(),
            model=waved(Qwen3ForCausalLM(config), 0.0),
            ref_model=waved(Qwen3ForCausalLM(config), 0.3),
            reward_model=waved(Qwen3ForSequenceClassification(scored), 0.7),
            value_model=waved(Qwen3ForSequenceClassification(scored), 1.1),
            train_dataset=Dataset.from_dict({"input_ids": rollouts(kind)[0]}),
        )
        recorder.watch(trainer)
        trainer.train()
    ppo_trainer.masked_whiten, ppo_trainer.np.random.permutation = recorder._whiten, recorder._permutation
    recorder.found["weights"] = {
        name: plain(parameter)
        for name, parameter in sorted(trainer.model.named_parameters())
        if parameter.requires_grad
    }
    return recorder.found


def rounded(value: object) -> object:
    """Eight significant digits are more than float32 has."""
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list) else value


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        found = {
            "settings": SETTINGS,
            "shape": SHAPE,
            "full": run("full", whiten_rewards=False, kl_estimator="k1"),
            "mixed": run("mixed", whiten_rewards=True, kl_estimator="k3"),
        }
    sys.stdout.write(json.dumps(rounded(found)) + "\n")
