"""Small models of architectures that scale, remember or forget otherwise than Llama: random, with weights large enough
that all of it matters.
"""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from adaptbench.latent.fusion import Fusion, fuse

SIZES = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
KINDS = {
    "gemma": {},
    "gemma2": {"sliding_window": 8},
    "mistral": {"sliding_window": 8},
    "granite": {"embedding_multiplier": 3.0, "logits_scaling": 4.0, "attention_multiplier": 0.3},
    "cohere": {"logit_scale": 0.5},
    "biogpt": {"scale_embedding": True},
    "gpt2": {"n_positions": 256},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "qwen3_next": {
        "layer_types": ["linear_attention", "full_attention", "linear_attention"], "linear_num_key_heads": 1,
        "linear_num_value_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    },
    "qwen3_5_text": {
        "layer_types": ["linear_attention", "full_attention", "linear_attention"], "linear_num_key_heads": 1,
        "linear_num_value_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    },
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"], "block_multiple_of": 16},
    "mamba": {"state_size": 8},
    "zamba": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2, "num_hidden_layers": 4, "n_mamba_heads": 2,
        "mamba_d_state": 8,
        "attention_head_dim": 32,
    },
    "falcon_h1": {"embedding_multiplier": 2.0, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8,
    "mamba_d_state": 8},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 8,
        "num_kv_shared_layers": 0,
        "vocab_size_per_layer_input": 300, "hidden_size_per_layer_input": 8, "altup_num_inputs": 2, "laurel_rank": 4,
        "activation_sparsity_pattern": [0.0, 0.0, 0.0],
    },
    "bart": {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 48},
}  # fmt: skip


def small(kind: str, *, seed: int = 0, **options) -> PreTrainedModel:
    """A model of the kind in evaluation mode; its dropout, if it has any, is the architecture's default."""
    config = AutoConfig.for_model(kind, **SIZES | KINDS[kind] | options)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    model.get_input_embeddings().padding_idx = None  # it would keep gradients from a row that predictions mix
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "A_log" not in name:
                parameter.normal_(0, 0.3 if "embed" in name or "wte" in name else parameter[0].numel() ** -0.5)
            elif parameter.ndim == 1 and not name.endswith(("A_log", ".D", "dt_bias")):
                parameter.add_(torch.rand_like(parameter) * 0.2)
    return model.eval()


def latent_by_definition(fusion: Fusion, model, hidden, logits, excluded: int):
    """The latent after a position: a prediction is embedded by what the embedding module returns for every token."""
    tokens = torch.arange(logits.shape[-1])
    return fuse(fusion, hidden, logits, model.get_input_embeddings()(tokens), excluded)
