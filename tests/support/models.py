"""Toy models of every architecture: random, with weights large enough that every part matters."""

import sys

ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2")


def toy_model(architecture: str, *, layers: int = 4, vocabulary: int = 300, seed: int = 0):
    """A random model of one of ARCHITECTURES, with weights large enough that every part matters."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    more = {"head_dim": 16} if architecture in ("qwen3", "gemma", "gemma2", "mistral", "llama") else {}
    if architecture in ("gemma2", "mistral"):
        more["sliding_window"] = 8
    config = AutoConfig.for_model(
        architecture,
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.2,
        **more,
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.rand_like(parameter) * 0.2)
    return model.eval()


def norms_in_float64(model):
    """The model's norms without their detour through float32."""
    import torch

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            gain = (lambda w: 1 + w) if type(module).__name__.startswith("Gemma") else (lambda w: w)
            eps = getattr(module, "variance_epsilon", None) or module.eps

            def forward(x, module=module, gain=gain, eps=eps):
                return gain(module.weight) * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)

            module.forward = forward
    return model


def reset_accelerate() -> None:
    if "accelerate.state" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(True)
        GradientState._reset_state()
