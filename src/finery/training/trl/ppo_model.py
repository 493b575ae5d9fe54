"""The models of proximal policy optimization: the actor, its critic, and the reference that it may not leave.

Dimensions: B completions, T tokens, C completion tokens, H hidden.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from finery.training.trl.logprobs import Reading, read_completions

_CRITIC = Path("critic") / "trained.safetensors"
"""In a folder of its own, so that the checkpoint is the actor's for whoever else loads it."""


class Critic(torch.nn.Module):
    """Predicts, from a prompt and the tokens so far, what rewards are still to come."""

    def __init__(self, hidden_size: int, trunk: PreTrainedModel | PeftModel | None = None):
        """Start with values of 0.

        Args:
            hidden_size: H.
            trunk: Layers of its own, without a head; None reads the actor's.
        """
        super().__init__()
        self.trunk = trunk
        self.head = torch.nn.Linear(hidden_size, 1, bias=False)  # as a reward model's
        torch.nn.init.zeros_(self.head.weight)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor, hidden_BCH: Tensor) -> Tensor:
        """Value of the state in which each completion token was drawn, (B, C), float32.

        Args:
            ids_BT: Prompts padded on the left, completions on the right.
            mask_BT: 1 where a token counts.
            hidden_BCH: The actor's last hidden states where the tokens were drawn.
        """
        if self.trunk is not None:
            output = self.trunk(
                input_ids=ids_BT * mask_BT,
                attention_mask=mask_BT,
                position_ids=(mask_BT.cumsum(dim=1) - 1).clamp(min=0),
                use_cache=False,
            )
            hidden_BCH = output.last_hidden_state[:, -1 - hidden_BCH.shape[1] : -1]
        with torch.autocast(hidden_BCH.device.type, enabled=False):
            values_BC: Tensor = self.head(hidden_BCH.float())[..., 0]
        return values_BC


class ActorCritic(torch.nn.Module):
    """What the optimizer trains."""

    _keys_to_ignore_on_save: list[str] | None = None
    """transformers.Trainer asks for it after loading weights: no key is left out when saving."""

    def __init__(self, actor: PreTrainedModel | PeftModel, critic: Critic):
        super().__init__()
        self.actor = actor
        self.critic = critic
        self.config = actor.config
        for module in self.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # ratios compare two passes, which must differ by their weights alone

    def forward(
        self, ids_BT: Tensor, mask_BT: Tensor, num_completion: int, temperature: float, entropy_has_grad: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, entropies and values of the completions, each (B, C); see `read_completions`."""
        found = self.read(ids_BT, mask_BT, num_completion, temperature, entropy_has_grad)
        assert found.hidden_BCH is not None
        return found.logprobs_BC, found.entropies_BC, self.critic(ids_BT, mask_BT, found.hidden_BCH)

    def read(
        self, ids_BT: Tensor, mask_BT: Tensor, num_completion: int, temperature: float, entropy_has_grad: bool
    ) -> Reading:
        """What the actor alone says of the completions."""
        return read_completions(
            self.actor, ids_BT, mask_BT, num_completion, temperature, entropy_has_grad, with_hidden=True
        )

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        """What transformers.Trainer calls if its arguments say so."""
        self.actor.gradient_checkpointing_enable(**kwargs)
        if self.critic.trunk is not None:
            self.critic.trunk.gradient_checkpointing_enable(**kwargs)

    def save(self, folder: Path) -> None:
        """Write the actor as a checkpoint of its own, and what is trained of the critic beside it."""
        self.actor.save_pretrained(folder)
        target = folder / _CRITIC
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(self._trained_of_critic(), target)

    def load_critic(self, folder: Path) -> None:
        """The inverse of `save` for the critic."""
        saved = load_file(folder / _CRITIC)
        with torch.no_grad():
            for name, tensor in self._trained_of_critic().items():
                tensor.copy_(saved[name])

    def _trained_of_critic(self) -> dict[str, Tensor]:
        parameters = self.critic.named_parameters()
        return {name: tensor.detach() for name, tensor in parameters if tensor.requires_grad}


class Reference:
    """The actor as it was at the start: with its adapter switched off, or a frozen copy."""

    def __init__(self, model: ActorCritic):
        self._model = model
        self._copy = None if isinstance(model.actor, PeftModel) else copy.deepcopy(model.actor).requires_grad_(False)

    @torch.no_grad()
    def logprobs(self, ids_BT: Tensor, mask_BT: Tensor, num_completion: int, temperature: float) -> Tensor:
        """Log-probabilities of the completions, (B, C)."""
        with self._off():
            model = self._model.actor if self._copy is None else self._copy
            return read_completions(model, ids_BT, mask_BT, num_completion, temperature, False).logprobs_BC

    @contextmanager
    def _off(self) -> Iterator[None]:
        with nullcontext() if self._copy is not None else self._model.actor.disable_adapter():
            yield


def actor_critic(
    model: PreTrainedModel, lora: LoraConfig | None, *, is_separate: bool, reward_model: PreTrainedModel | None = None
) -> ActorCritic:
    """The actor and its critic at their start.

    Args:
        model: Starting model.
        lora: Update matrices that are trained in place of the weights, also of a separate critic.
        is_separate: Give the critic layers of its own,
        reward_model: taken from this model with its head; None copies the actor's.
    """
    trunk = None
    if is_separate:
        trunk = copy.deepcopy(model.base_model) if reward_model is None else reward_model.base_model
        if lora is not None:
            trunk = get_peft_model(trunk, _for_trunk(lora))
    critic = Critic(model.config.hidden_size if reward_model is None else reward_model.config.hidden_size, trunk)
    if reward_model is not None:
        with torch.no_grad():
            critic.head.weight.copy_(reward_model.score.weight)
    return ActorCritic(model if lora is None else get_peft_model(model, lora), critic)


def _for_trunk(lora: LoraConfig) -> LoraConfig:
    found = copy.deepcopy(lora)
    found.task_type = "FEATURE_EXTRACTION"
    return found
