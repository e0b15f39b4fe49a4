"""Measures what a base model can do, once; every method asks here for what it needs of its base.

A capability maps to the reason why the base lacks it, empty where it has it. They are measured on the real model when it is taken
in, and kept in its adaptbench.json. Before any job they are known by `model_type` from architectures.json, which
tools/capabilities_table.py makes from a small random model of each architecture.
"""

NAMES = {
    "causal": "a token's logits do not depend on later tokens",
    "packing": "documents that share a row do not see each other",
    "sharing": "examples with a common beginning can share its computation",
    "padding": "a row padded on the left computes what it computes alone",
    "caching": "generation with the model's cache writes what it writes without",
    "expansion": "copies of layers can be inserted as identities",
    "embeddings": "decodes from embeddings, in batches, with the model's own cache",
    "latents": "a latent vector can take the place of a token's embedding",
    "wavefront": "passes through latents can run in pieces",
}
