"""Build a small random model of every causal language model architecture of the installed transformers.

A claim about "every causal language model" has to be checked on all of them, and their checkpoints are too many and too
large for that. Here each `model_type` gets a model of about four layers of width 64, with random weights.

Two tables hold the sizes: `SMALL` those of the fields that mean the same in every architecture, `SPECIAL` the rest.
All other fields, dropout probabilities and `is_decoder` among them, keep the defaults of the type. A type that
alternates kinds of layers gets each of its kinds. Identifiers of image and audio placeholders stay outside the
vocabulary, so no random token is one of them.

The weights are drawn again, wide enough that every part moves the logits: the usual standard deviation of 0.02 leaves
attention, routers and gates almost without effect at this width.
"""

import copy
import dataclasses
import re
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, SiglipVisionConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

TYPES: tuple[str, ...] = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))

_DRAFTER = (
    "a drafter, not a language model of its own: its forward pass ignores input_ids and needs hidden states, keys and "
    "values of a target model; building it raises a ValueError in kv_sharing_modes of transformers 5.23.0"
)
# Types that `small_model` cannot build, with the reason.
UNBUILT: dict[str, str] = {"gemma4_assistant": _DRAFTER, "gemma4_unified_assistant": _DRAFTER}

# A field gets the number before its name wherever its default is a larger number.
_SMALL = """
128 vocab_size vocab_size_per_layer_input decoder_vocab_size pronunciation_vocab_size shape_vocab_size
128 unpadded_vocab_size audio_vocab_size encoder_hash_byte_group_vocab codebook_size
256 max_position_embeddings n_positions n_ctx max_seq_len context_length model_max_length mem_len max_source_positions
256 max_target_positions position_bias_max_distance position_embedding_size num_position_embeddings mm_posemb_size
256 ngram_vocab_size_base
64 hidden_size d_model n_embd emb_dim embedding_size input_embedding_size output_embedding_size hidden_size_global
64 backbone_hidden_size pronunciation_embed_dim out_hidden_size output_proj_dims adapter_in_dim adapter_input_size
64 adapter_out_dim vision_output_dim mm_embed_dim audio_embed_dim projector_input_dim projector_output_dim
64 output_channels nemo_conv_channels ext_pw_out_channel depthwise_separable_out_channel
128 intermediate_size ffn_dim encoder_ffn_dim decoder_ffn_dim ffn_hidden_size d_inner dff dim_ff d_ff feed_forward_size
128 intermediate_size_mlp dense_intermediate_size mlp_dim prompt_mid_dim mamba_d_ssm
32 moe_intermediate_size shared_expert_intermediate_size shared_experts_intermediate_size shared_intermediate_size
32 moe_shared_expert_intermediate_size expert_ffn_hidden_size kv_lora_rank q_lora_rank o_lora_rank router_hidden_size
32 shape_embed_dim num_centroids adapter_rank num_buckets position_bias_num_buckets ffn_round_up_to_multiple_of
32 hidden_size_per_layer_input block_multiple_of downsample_hidden_size base_channels make_ngram_vocab_size_divisible_by
16 head_dim d_head d_kv dim_head attention_head_size attention_head_dim kv_channels qk_nope_head_dim v_head_dim
16 linear_head_dim linear_key_head_dim linear_value_head_dim index_head_dim swa_head_dim query_pre_attn_scalar
16 mamba_head_dim mamba_d_state ssm_state_size state_size gated_norm_rank laurel_rank hc_lowrank dim_model_base
16 rel_extent log_scaling_n_floor floor_scale original_max_position_embeddings image_size crop_size
8 sliding_window sliding_window_size attention_window_size local_attention window_size attention_chunk_size index_topk
8 chunk_size mamba_chunk_size keep_window_size local_attention_window_len local_attn_chunk_length
8 lsh_attn_chunk_length prompt_length qk_rope_head_dim rotary_dim d_rel centroid_intermediate_top_k
8 mamba_n_heads mamba_num_heads patch_size
4 num_hidden_layers n_layer n_layers num_layers num_encoder_layers num_decoder_layers encoder_layers decoder_layers
4 num_blocks depth num_global_layers conf_num_hidden_layers conf_num_attention_heads num_attention_heads n_head n_heads
4 num_heads encoder_attention_heads decoder_attention_heads attention_heads num_encoder_attention_heads
4 num_decoder_attention_heads linear_num_heads swa_num_attention_heads linear_num_value_heads index_n_heads num_experts
4 num_local_experts n_routed_experts moe_num_experts index_block_size split_ngram_parts
2 num_key_value_heads kv_n_heads swa_num_key_value_heads linear_num_key_heads n_group num_expert_group o_groups n_groups
2 num_experts_per_tok num_experts_per_token moe_topk moe_top_k moe_k index_topk_blocks n_mamba_heads hc_mult hc_count
2 zero_expert_num heads_per_ngram block_size decoder_start_token_id forced_eos_token_id cls_token_id sep_token_id
1 topk_group first_k_dense_replace num_dense_layers n_shared_experts num_shared_experts moe_num_shared_experts
1 num_random_blocks
"""
SMALL = {name: int(value) for value, *names in map(str.split, _SMALL.strip().splitlines()) for name in names}
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
# Lists with an entry per decoder layer.
_PER_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type", "indexer_types")

_SLIDING = ["sliding_attention", "full_attention"] * 2
_LINEAR = ["linear_attention", "linear_attention", "full_attention", "linear_attention"]
_CONVOLUTION = ["conv", "conv", "full_attention", "conv"]
_HYBRID = ["linear_attention", "hybrid"] * 2
_COMPRESSED = ["sliding_attention", "heavily_compressed_attention", "compressed_sparse_attention"]
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_INDEXER = dict(indexer_n_heads=2, indexer_kv_heads=1, indexer_head_dim=16, indexer_budget=8, indexer_compress_ratio=2)
_MLA = dict(num_attention_heads=4, num_key_value_heads=4, q_lora_rank=32, kv_lora_rank=32, head_dim=24, v_head_dim=16)

# Fields of a type, or of a part of a composite type, that `SMALL` does not give.
SPECIAL: dict[str, dict] = {
    "bamba": {"attn_layer_indices": [2]},
    # The cache of the decoder has as many layers as the encoder.
    "blenderbot": {"encoder_layers": 4, "max_position_embeddings": 256},
    "bloom": {"n_layer": 4},
    "blt": {"num_hidden_layers": 4, "patching_threshold": 4.4},  # the cache asks for a field that BltConfig lacks
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25},
    "cohere2_moe": {"logit_scale": 0.25, "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]},
    "cohere_compass_text": {
        "layer_types": _SLIDING,
        "rope_parameters": {"sliding_attention": _ROPE, "full_attention": None},
    },
    "cwm": {"eos_token_id": 2},
    # The class reads a field that its configuration lacks, and cannot do without a bound.
    "dbrx": {
        "attn_config": {"rope_theta": 1e4, "clip_qkv": 8.0, "kv_n_heads": 2},
        "ffn_config": {"ffn_hidden_size": 64, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "deepseek_v4": {
        "layer_types": [*_COMPRESSED, "heavily_compressed_attention"],
        "mlp_layer_types": ["hash_moe", "hash_moe", "moe", "moe"],
        "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4},
        "partial_rotary_factor": 0.5,
    },
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1},
    "dots3_note_text": {"head_dim": 24, "sliding_window": 8, "swa_qk_nope_head_dim": 16}
    | {f"swa_{name}": _MLA[name] for name in _MLA},
    "dots3_note_vision_encoder": {"num_hidden_layers": 2, "mlp_layer_types": ["dense", "sparse"]},
    "gemma3n_text": {
        "layer_types": _SLIDING,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.95, 0.0, 0.95, 0.0],
    },
    "gemma4_text": {"global_head_dim": 32},
    "gemma4_unified_text": {"global_head_dim": 32},
    "glm": {"eos_token_id": 2},
    "glm4": {"eos_token_id": 2},
    "glm_moe_dsa": {"indexer_types": ["full", "shared"] * 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": _LINEAR},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16, "num_experts": 4, "moe_topk": 2},
    "inkling_text": {
        "layer_types": ["hybrid_sliding", "hybrid"] * 2,
        "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        "logits_mup_width_multiplier": 2.0,
    },
    "inkling2_text": {"layer_types": ["hybrid_sliding", "hybrid"] * 2},
    "jamba": {"attn_layer_period": 4, "attn_layer_offset": 2},
    "laguna": {"layer_types": _SLIDING},
    "lfm2": {"layer_types": _CONVOLUTION},
    "lfm2_moe": {"layer_types": _CONVOLUTION},
    "llama4_text": {"interleave_moe_layer_step": 2},
    "longcat_flash": {"head_dim": 8},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "mellum": {"layer_types": _SLIDING},
    "minimax_m3_vl_text": {
        "layer_types": ["full_attention", "minimax_m3_sparse"] * 2,
        "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
    },
    "ministral": {"head_dim": 16},
    "mllama_text_model": {"num_hidden_layers": 5, "cross_attention_layers": [3]},  # text alone skips such layers
    "musicgen_decoder": {"num_codebooks": 1},
    "musicgen_melody_decoder": {"num_codebooks": 1},
    "phi4_multimodal": {"eos_token_id": 2},
    "qwen4_exp_text": {**_INDEXER, "ple_layer_ids": [2], "eos_token_id": 2},
    "reformer": {
        "is_decoder": True,  # the class refuses anything else
        "attn_layers": ["local", "lsh"] * 2,
        "axial_pos_shape": [16, 16],
        "axial_pos_embds_dim": [16, 48],
        "hash_seed": 0,  # else the hashing is random in every forward pass
        "num_buckets": 4,
    },
    "whisper": {"begin_suppress_tokens": None},
    "xlstm": {"qk_dim_factor": 1.0},  # the cache rounds the width of queries up to 64, the layers do not
    "xmod": {"default_language": "en_XX"},
    "zamba": {"layers_block_type": _HYBRID},
    "zamba2": {"layers_block_type": _HYBRID},
    "zaya": {"layer_types": ["hybrid", "hybrid_sliding"] * 2, "sliding_window": 8, "num_experts_per_tok": 1},
}
# Composite types whose causal language model takes the configuration of one part, which the auto class does not know.
_PART = {"musicgen": "decoder", "musicgen_melody": "decoder"}


def _arguments(config_class: type[PreTrainedConfig], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments that make a configuration of `config_class` small, `overrides` among them."""
    defaults = {field.name: field.default for field in dataclasses.fields(config_class)}
    overrides = {config_class.attribute_map.get(name, name): value for name, value in overrides.items()}
    numbers = {name: value for name, value in defaults.items() if isinstance(value, int)}
    small: dict[str, Any] = {name: SMALL[name] for name, value in numbers.items() if value > SMALL.get(name, value)}
    small |= {name: value for name, value in _IDS.items() if defaults.get(name) is not None}
    if "kv_lora_rank" in defaults or defaults.get("num_key_value_heads", 0) is None:
        small["num_key_value_heads"] = 4 if "kv_lora_rank" in defaults else 2
    small |= copy.deepcopy(SPECIAL.get(config_class.model_type, {}))
    for name, part in getattr(config_class, "sub_configs_defaults", {}).items():
        part_class: Any = getattr(part, "config_class", part)
        if not dataclasses.is_dataclass(part_class):
            part_class = CONFIG_MAPPING[part.model_type]
        inner = {**overrides.pop(name, {})}
        if name in ("text_config", "decoder"):  # a field that only the language model has belongs to it
            known = {field.name for field in dataclasses.fields(part_class)} | {*part_class.attribute_map}
            inner |= {key: overrides.pop(key) for key in [*overrides] if key in known and key not in defaults}
        if inner or not getattr(part, "optional", False):
            small[name] = part_class(**_arguments(part_class, inner))
    small |= overrides
    layers: dict[str, list[str]] = {name: small.get(name) or [] for name in _PER_LAYER if name in defaults}
    if not all(layers.values()):
        usual = config_class()
        layers = {name: kinds or getattr(usual, name) for name, kinds in layers.items()}
        layers = {name: kinds for name, kinds in layers.items() if kinds}
    if layers:  # as many layers as asked for, or as it takes to have each kind
        if asked := [len(kinds) for name, kinds in layers.items() if name in overrides]:
            small["num_hidden_layers"] = asked[0]
        elif "num_hidden_layers" not in overrides:
            small["num_hidden_layers"] = next(
                count for count in range(4, 9) if all(set(kinds[:count]) == set(kinds) for kinds in layers.values())
            )
        for name, kinds in layers.items():
            small[name] = [kinds[index % len(kinds)] for index in range(small["num_hidden_layers"])]
    return small


def small_config(model_type: str, **overrides: Any) -> PreTrainedConfig:
    """Return the small configuration of `model_type`, with `overrides` by the names of its fields."""
    if model_type in UNBUILT:
        raise ValueError(f"{model_type}: {UNBUILT[model_type]}")
    config = CONFIG_MAPPING[model_type](**_arguments(CONFIG_MAPPING[model_type], overrides))
    if model_type == "gemma3n":  # its vision tower needs timm; text does not pass through the tower, so any will do
        tower = SiglipVisionConfig(
            **_arguments(SiglipVisionConfig, {}), vocab_size=128, vocab_offset=128, rms_norm_eps=1e-6
        )
        vars(config)["vision_config"] = tower  # past the check of its class
    return config


def small_model(
    model_type: str, *, seed: int = 0, dtype: str | torch.dtype = "float32", **overrides: Any
) -> PreTrainedModel:
    """Return a small model of `model_type` in eval mode, the same for the same seed."""
    config = small_config(model_type, **overrides)
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model_type in _PART:
            model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
            model = model_class._from_config(getattr(config, _PART[model_type]), dtype=dtype)
        else:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            kept = any(re.search(part.replace("*", ".*"), name) for part in model._get_dtype_plan(dtype))
            if kept and tensor.is_floating_point():
                tensor.data = tensor.data.float()  # as loading a checkpoint does
        torch.manual_seed(seed)
        _draw(model)
    return model.eval()


# Tables that are computed, and parameters whose sign and order of magnitude carry a decay or a step size.
_COMPUTED = re.compile("Sinusoidal")
_KEPT = re.compile(r"(^|\.)(A_log|D|time_\w+|dt_\w*bias|dt_proj\.bias)$")
_CLOSED = re.compile(r"igate_preact\.bias$")  # an input gate of exp(-10): the layer would give nothing
_OFFSETS = re.compile(r"(correction_bias|expert_bias|balancing_biases|layer_scalar)$")  # buffers that training sets


@torch.no_grad()
def _draw(model: nn.Module) -> None:
    """Redraw the matrices of `model` and add noise to its vectors, so that no part of it is without effect."""
    drawn = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(module_name, recurse=False):
            if _COMPUTED.search(type(module).__name__) or _KEPT.search(name) or parameter in drawn:
                continue
            drawn.add(parameter)  # tied parameters belong to several modules
            noise = torch.randn(parameter.shape)
            rows, columns = [1, 1, *(size for size in parameter.shape if size > 1)][-2:]
            if rows == 1 or "bias" in name:
                old = 0 if _CLOSED.search(name) else parameter.float()
                parameter.copy_(old + 0.1 * noise)
            elif isinstance(module, nn.Embedding):
                parameter.copy_(0.2 * noise)
            elif isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:  # of other modules it is unknown which dimension is summed over
                parameter.copy_(noise / (rows * columns) ** 0.25)
        for name, buffer in module.named_buffers(recurse=False):
            if _OFFSETS.search(name):
                buffer.add_(0.1 * torch.randn(buffer.shape))
            elif name == "tid2eid":  # the experts of each token, by its identifier
                buffer.copy_(torch.rand(len(buffer), model.config.n_routed_experts).argsort()[:, : buffer.shape[1]])
