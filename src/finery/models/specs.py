"""How a job file names a model."""

from typing import Literal

from pydantic import Field

from finery.core.spec import ADVANCED, Spec


class LoraSpec(Spec):
    """Low-rank adaptation (arXiv:2106.09685): only small matrices beside the frozen weights are trained."""

    rank: int = Field(16, ge=1, le=1024)
    """Rank of the update matrices."""
    alpha: float = Field(32.0, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1, json_schema_extra=ADVANCED)
    """Dropout on the input of the update matrices."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field("all-linear", json_schema_extra=ADVANCED)
    """Names of the layers that get an update; `all-linear` is every linear layer but the output head."""


class ModelSpec(Spec):
    """The model that a job starts from."""

    base: str = Field(min_length=1, max_length=500)
    """A built-in name (`smollm2-135m-instruct`, `tiny-char`), a Hugging Face id (`Qwen/Qwen2.5-0.5B-Instruct`, pinned
    with `@revision`), a ModelScope id (`modelscope:Qwen/Qwen2.5-0.5B`), a local folder with safetensors (`./my-model`),
    or a checkpoint of another job (`job:41/step:200`, `job:41/last`, `job:warm-up/last` within one pipeline)."""
    lora: LoraSpec | None = None
    """Train small update matrices instead of all weights."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", json_schema_extra=ADVANCED)
    """Number format of the weights in memory; `auto` is bfloat16 where the hardware computes in it, else float32."""
    template: Literal["auto", "chatml", "plain"] = Field("auto", json_schema_extra=ADVANCED)
    """How messages become text: `auto` is the template of the model (some add a system prompt of their own),
    `chatml` is ChatML with nothing added, `plain` is the text alone. It is saved with each checkpoint."""
