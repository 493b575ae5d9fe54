"""How a job file names a model."""

from typing import Literal, Self

from pydantic import Field, model_validator

from finery.core.spec import ADVANCED, Spec


class LoraSpec(Spec):
    """Low-rank adaptation (arXiv:2106.09685): only small matrices beside the frozen weights are trained."""

    kind: Literal["lora", "dora", "rslora"] = Field("lora", json_schema_extra=ADVANCED)
    """`rslora` scales the update by alpha / sqrt(rank), so that high ranks keep learning (arXiv:2312.03732); `dora`
    also trains the norm of each weight's rows, which costs time (arXiv:2402.09353)."""
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
    or a checkpoint of another job (`job:41/step:200`, `job:41/last`, `job:warm-up/last` within one pipeline), with
    `/ema` behind it the moving averages of its weights."""
    lora: LoraSpec | None = None
    """Train small update matrices instead of all weights."""
    quantize: Literal["none", "nf4", "int8"] = Field("none", json_schema_extra=ADVANCED)
    """Hold the frozen weights beside `lora` in 4 bits (nf4 with double quantization: QLoRA, arXiv:2305.14314) or 8
    (arXiv:2208.07339). Checkpoints hold the update alone, and are folded into the weights of `base` as they were."""
    gradient_checkpointing: bool = Field(False, json_schema_extra=ADVANCED)
    """Compute each layer again in the backward pass instead of keeping what lies in between: less memory, a third
    more time."""
    liger: bool = Field(False, json_schema_extra=ADVANCED)
    """Use the fused kernels of the package liger-kernel. On a GPU only."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", json_schema_extra=ADVANCED)
    """Number format of the weights in memory; `auto` is bfloat16 where the hardware computes in it, else float32."""
    template: Literal["auto", "chatml", "plain"] = Field("auto", json_schema_extra=ADVANCED)
    """How messages become text: `auto` is the template of the model (some add a system prompt of their own),
    `chatml` is ChatML with nothing added, `plain` is the text alone. It is saved with each checkpoint."""

    @model_validator(mode="after")
    def _only_updates_of_quantized_weights_are_trained(self) -> Self:
        if self.quantize != "none" and self.lora is None:
            raise ValueError(
                f"model.quantize: {self.quantize} freezes the weights, so something beside them must be trained; "
                "add model.lora, or remove model.quantize"
            )
        return self
