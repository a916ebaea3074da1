"""A decoder of transformers' with a cache of fixed length as buffers that it changes: exported, the cache is state of the plan."""

from __future__ import annotations

from typing import Any

import torch

from ....ir.errors import ModelError


class CachedDecoder(torch.nn.Module):  # type: ignore[misc]
    """Logits of the next tokens of `batch` sequences, each call going on where the one before ended. The cache has room for
    `length` tokens. Raises ModelError for what is no decoder, or keeps anything else than keys and values of all positions."""

    def __init__(self, model: Any, config: Any, batch: int, length: int) -> None:
        super().__init__()
        from transformers import StaticCache
        from transformers.cache_utils import StaticLayer
        from transformers.integrations.executorch import get_head_shapes

        if not model.can_generate() or getattr(config, "is_encoder_decoder", False):
            hint = "compile it without --cache"
            raise ModelError(f"{type(model).__name__} is no decoder that goes on from token to token", hint=hint)
        text = config.get_text_config()
        self.model, self.cache = model, StaticCache(config=text, max_cache_len=length)
        odd = {type(layer).__name__ for layer in self.cache.layers if type(layer) is not StaticLayer}
        if odd:
            what = f"{type(model).__name__} keeps {', '.join(sorted(odd))}; a cache is made of keys and values of all tokens"
            raise ModelError(what, hint="compile it without --cache, or a module with a cache of your own")
        heads, width = get_head_shapes(text)
        dtype = next(model.parameters()).dtype
        self.cache.early_initialization(batch, heads, width, dtype, torch.device("cpu"))
        for number, layer in enumerate(self.cache.layers):
            for name, tensor in (("keys", layer.keys), ("values", layer.values), ("length", layer.cumulative_length)):
                self.register_buffer(f"{name}_{number}", tensor, persistent=False)

    def forward(self, input_ids: Any) -> Any:
        # the layers must be seen to change this module's buffers
        for number, layer in enumerate(self.cache.layers):
            layer.keys, layer.values = getattr(self, f"keys_{number}"), getattr(self, f"values_{number}")
            layer.cumulative_length = getattr(self, f"length_{number}")
        room = self.cache.layers[0].max_cache_len
        torch._assert_async((self.length_0 + input_ids.shape[1] <= room).reshape(()), "tokens_beyond_the_cache")
        return {"logits": self.model(input_ids=input_ids, past_key_values=self.cache, use_cache=True).logits}
