"""Models: from a name to weights on disk, a tokenizer and text.

Owns resolving a model reference (built-in name, Hugging Face id, ModelScope id, local folder, checkpoint), loading
(safetensors only), chat templates and the one batched generator that rollouts, evaluation and chat share.
"""
