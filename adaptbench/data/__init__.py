"""Documents, tokenizers and packed batches. Imports graph and below."""
