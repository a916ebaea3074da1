"""Small models of many families, from the configurations of `transformers`: few layers, narrow, seeded weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

SEED = 0
BATCH, SEQ = 2, 12
#: what most language models have in common here
_NARROW = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_WIDE = {**_NARROW, "intermediate_size": 64, "max_position_embeddings": 64}
_DECODER = {**_WIDE, "num_key_value_heads": 2, "use_cache": False}


@dataclass(frozen=True)
class Subject:
    """One model: `make` builds it and its example inputs, with the package `wants`; `outputs` names the fields of its result that
    are compared."""

    name: str
    make: Callable[[], tuple[torch.nn.Module, dict[str, torch.Tensor]]]
    outputs: tuple[str, ...] = ()
    wants: str = "transformers"


class Fields(torch.nn.Module):
    """A model whose result is a tuple of the named fields of what it gives."""

    def __init__(self, inner: torch.nn.Module, fields: tuple[str, ...]) -> None:
        super().__init__()
        self.inner, self.fields = inner, fields

    def forward(self, **inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        result = self.inner(**inputs)
        return tuple(result[field] if isinstance(result, Mapping) else getattr(result, field) for field in self.fields)


def ids(*shape: int, name: str = "input_ids", top: int = 99) -> dict[str, torch.Tensor]:
    return {name: torch.randint(3, top, shape or (BATCH, SEQ))}


def _mask() -> dict[str, torch.Tensor]:
    mask = torch.ones(BATCH, SEQ, dtype=torch.int64)
    mask[1, SEQ - 4 :] = 0
    return {"attention_mask": mask}


def _pixels(size: int = 32, batch: int = BATCH) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(batch, 3, size, size)}


def _tokens() -> dict[str, torch.Tensor]:
    return {**ids(), **_mask()}


def _hf(
    model: str,
    config: str,
    inputs: Callable[[], dict[str, torch.Tensor]],
    outputs: tuple[str, ...] = ("last_hidden_state",),
    **values: Any,
) -> Callable[[], tuple[torch.nn.Module, dict[str, torch.Tensor]]]:
    def make() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
        import transformers

        torch.manual_seed(SEED)
        made = getattr(transformers, model)(getattr(transformers, config)(**values))
        return made.eval(), inputs()

    return make


def _decoder_inputs(encoder: int = 32) -> Callable[[], dict[str, torch.Tensor]]:
    def inputs() -> dict[str, torch.Tensor]:
        return {**ids(BATCH, 5), "encoder_hidden_states": torch.randn(BATCH, SEQ, encoder)}

    return inputs


class _Part(torch.nn.Module):
    """A part of a model that takes keyword arguments, without a cache."""

    def __init__(self, part: torch.nn.Module, **fixed: Any) -> None:
        super().__init__()
        self.part, self.fixed = part, fixed

    def forward(self, **inputs: torch.Tensor) -> Any:
        return self.part(**inputs, **self.fixed)


def _part(
    model: str,
    config: str,
    path: str,
    inputs: Callable[[], dict[str, torch.Tensor]],
    fixed: Mapping[str, Any] | None = None,
    **values: Any,
) -> Callable[[], tuple[torch.nn.Module, dict[str, torch.Tensor]]]:
    whole = _hf(model, config, inputs, **values)

    def make() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
        made, given = whole()
        return _Part(made.get_submodule(path), **(fixed or {})).eval(), given

    return make


_T5 = {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_BART = {
    "vocab_size": 99,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
}
_WHISPER = {
    **_BART,
    "num_mel_bins": 16,
    "max_source_positions": 24,
    "max_target_positions": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
_TEXT = {**_WIDE, "projection_dim": 32, "eos_token_id": 2}
_WAV = {
    **_NARROW,
    "intermediate_size": 64,
    "conv_dim": (32, 32),
    "conv_stride": (5, 2),
    "conv_kernel": (10, 3),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
_RESNET = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 2], "layer_type": "bottleneck"}
_SEGFORMER = {
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "sr_ratios": [2, 1],
    "hidden_sizes": [16, 32],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "num_attention_heads": [1, 2],
    "mlp_ratios": [2, 2],
    "decoder_hidden_size": 16,
    "num_labels": 5,
}
_DETR = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_queries": 6,
}


def _detr() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    import transformers

    torch.manual_seed(SEED)
    backbone = transformers.ResNetConfig(**_RESNET, out_features=["stage2"])
    config = transformers.DetrConfig(**_DETR, backbone_config=backbone)
    mask = torch.ones(BATCH, 64, 64, dtype=torch.int64)
    return transformers.DetrForObjectDetection(config).eval(), {**_pixels(64), "pixel_mask": mask}


def _unet() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    import diffusers

    torch.manual_seed(SEED)
    made = diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    given = {"sample": torch.randn(BATCH, 4, 16, 16), "timestep": torch.tensor([7, 7])}
    return made.eval(), {**given, "encoder_hidden_states": torch.randn(BATCH, 7, 32)}


_LOGITS = ("logits",)
SUBJECTS = (
    Subject("BERT", _hf("BertModel", "BertConfig", _tokens, **_WIDE), ("last_hidden_state", "pooler_output")),
    Subject(
        "DistilBERT",
        _hf(
            "DistilBertModel", "DistilBertConfig", _tokens, vocab_size=99, dim=32, n_layers=2, n_heads=4, hidden_dim=64
        ),
        ("last_hidden_state",),
    ),
    Subject("RoBERTa", _hf("RobertaModel", "RobertaConfig", _tokens, **_WIDE), ("last_hidden_state",)),
    Subject("ALBERT", _hf("AlbertModel", "AlbertConfig", _tokens, embedding_size=16, **_WIDE), ("last_hidden_state",)),
    Subject(
        "DeBERTa-v2",
        _hf(
            *("DebertaV2Model", "DebertaV2Config", _tokens),
            **{**_WIDE, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
            norm_rel_ebd="layer_norm",
            share_att_key=True,
        ),
        ("last_hidden_state",),
    ),
    Subject("T5 encoder", _hf("T5EncoderModel", "T5Config", _tokens, **_T5), ("last_hidden_state",)),
    Subject(
        "T5 decoder",
        _part("T5Model", "T5Config", "decoder", _decoder_inputs(), {"use_cache": False}, **_T5),
        ("last_hidden_state",),
    ),
    Subject(
        "BART",
        _hf(
            *("BartModel", "BartConfig", lambda: {**_tokens(), **ids(BATCH, 5, name="decoder_input_ids")}),
            use_cache=False,
            **_BART,
        ),
        ("last_hidden_state", "encoder_last_hidden_state"),
    ),
    Subject(
        "GPT-2",
        _hf(
            *("GPT2LMHeadModel", "GPT2Config", _tokens),
            vocab_size=99,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            use_cache=False,
        ),
        _LOGITS,
    ),
    Subject("GPT-NeoX", _hf("GPTNeoXForCausalLM", "GPTNeoXConfig", _tokens, use_cache=False, **_WIDE), _LOGITS),
    Subject(
        "OPT",
        _hf(
            *("OPTForCausalLM", "OPTConfig", _tokens),
            use_cache=False,
            ffn_dim=64,
            word_embed_proj_dim=32,
            max_position_embeddings=64,
            **_NARROW,
        ),
        _LOGITS,
    ),
    Subject("Llama", _hf("LlamaForCausalLM", "LlamaConfig", _tokens, **_DECODER), _LOGITS),
    Subject("Qwen2", _hf("Qwen2ForCausalLM", "Qwen2Config", _tokens, **_DECODER), _LOGITS),
    Subject("Qwen3", _hf("Qwen3ForCausalLM", "Qwen3Config", _tokens, head_dim=8, **_DECODER), _LOGITS),
    Subject(
        "Mistral",
        _hf("MistralForCausalLM", "MistralConfig", _tokens, sliding_window=8, head_dim=8, **_DECODER),
        _LOGITS,
    ),
    Subject("Phi", _hf("PhiForCausalLM", "PhiConfig", _tokens, partial_rotary_factor=0.5, **_DECODER), _LOGITS),
    Subject("Gemma", _hf("GemmaForCausalLM", "GemmaConfig", _tokens, head_dim=8, **_DECODER), _LOGITS),
    Subject(
        "Mixtral",
        _hf("MixtralForCausalLM", "MixtralConfig", _tokens, num_local_experts=4, num_experts_per_tok=2, **_DECODER),
        _LOGITS,
    ),
    Subject(
        "Mamba",
        _hf(
            *("MambaForCausalLM", "MambaConfig", ids),
            vocab_size=99,
            hidden_size=32,
            num_hidden_layers=2,
            state_size=8,
            use_cache=False,
        ),
        _LOGITS,
    ),
    Subject("ViT", _hf("ViTForImageClassification", "ViTConfig", _pixels, **_VIT), _LOGITS),
    Subject("DeiT", _hf("DeiTModel", "DeiTConfig", _pixels, **_VIT), ("last_hidden_state",)),
    Subject(
        "Swin",
        _hf(
            *("SwinModel", "SwinConfig", _pixels),
            image_size=32,
            patch_size=2,
            embed_dim=16,
            depths=[2, 2],
            num_heads=[2, 4],
            window_size=4,
        ),
        ("last_hidden_state",),
    ),
    Subject(
        "ConvNeXt",
        _hf(
            *("ConvNextForImageClassification", "ConvNextConfig", _pixels),
            hidden_sizes=[16, 32],
            depths=[1, 2],
            num_stages=2,
        ),
        _LOGITS,
    ),
    Subject("ResNet", _hf("ResNetForImageClassification", "ResNetConfig", _pixels, **_RESNET), _LOGITS),
    Subject(
        "MobileNetV2",
        _hf("MobileNetV2ForImageClassification", "MobileNetV2Config", _pixels, image_size=32, depth_multiplier=0.35),
        _LOGITS,
    ),
    Subject(
        "EfficientNet",
        _hf(
            *("EfficientNetForImageClassification", "EfficientNetConfig", _pixels),
            image_size=32,
            width_coefficient=0.25,
            depth_coefficient=0.25,
            hidden_dim=320,
        ),
        _LOGITS,
    ),
    Subject("SegFormer", _hf("SegformerForSemanticSegmentation", "SegformerConfig", _pixels, **_SEGFORMER), _LOGITS),
    Subject("DETR", _detr, ("logits", "pred_boxes")),
    Subject("CLIP text", _hf("CLIPTextModelWithProjection", "CLIPTextConfig", _tokens, **_TEXT), ("text_embeds",)),
    Subject(
        "CLIP vision",
        _hf("CLIPVisionModelWithProjection", "CLIPVisionConfig", _pixels, projection_dim=32, **_VIT),
        ("image_embeds",),
    ),
    Subject(
        "Whisper encoder",
        _part(
            *("WhisperModel", "WhisperConfig", "encoder"),
            lambda: {"input_features": torch.randn(BATCH, 16, 48)},
            **_WHISPER,
        ),
        ("last_hidden_state",),
    ),
    Subject(
        "Whisper decoder",
        _part("WhisperModel", "WhisperConfig", "decoder", _decoder_inputs(), {"use_cache": False}, **_WHISPER),
        ("last_hidden_state",),
    ),
    Subject(
        "Wav2Vec2",
        _hf("Wav2Vec2ForCTC", "Wav2Vec2Config", lambda: {"input_values": torch.randn(BATCH, 800)}, **_WAV),
        _LOGITS,
    ),
    Subject("U-Net", _unet, wants="diffusers"),
)
