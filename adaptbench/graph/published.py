"""Published sizes of the models and data in the papers' presets, for estimates without cache and hub.

Models' sizes are those in config.json on the hub. Epochs are those of the public data as the presets pack them. Only
estimates read these tables, so a model or data set that is missing here is no error.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """The sizes of a decoder with gated MLPs and RMS norms, such as Llama and Qwen3.

    `head_norms` are the norms of queries and keys in Qwen3.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    head_norms: bool = False

    @property
    def layer(self) -> int:
        """Parameters of a layer."""
        projections = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        norms = 2 * self.hidden + (2 * self.head_dim if self.head_norms else 0)
        return projections + 3 * self.hidden * self.intermediate + norms

    @property
    def head(self) -> int:
        """Parameters of the output head."""
        return self.vocabulary * self.hidden

    @property
    def rest(self) -> int:
        """Parameters of all but the layers."""
        return self.head * (1 if self.tied else 2) + self.hidden


_LLAMA_3_8B = Model(32, 4096, 14336, 32, 8, 128, 128256, tied=False)
MODELS: Mapping[str, Model] = {
    "Qwen/Qwen3-1.7B-Base": Model(28, 2048, 6144, 16, 8, 128, 151936, tied=True, head_norms=True),
    "Qwen/Qwen3-4B-Base": Model(36, 2560, 9728, 32, 8, 128, 151936, tied=True, head_norms=True),
    "Qwen/Qwen3-8B-Base": Model(36, 4096, 12288, 32, 8, 128, 151936, tied=False, head_norms=True),
    "meta-llama/Meta-Llama-3-8B": _LLAMA_3_8B,
    "meta-llama/Llama-3.1-8B": _LLAMA_3_8B,
    "meta-llama/Llama-3.2-1B": Model(16, 2048, 8192, 32, 8, 64, 128256, tied=True),
    "meta-llama/Llama-3.2-3B": Model(28, 3072, 8192, 24, 8, 128, 128256, tied=True),
    "meta-llama/Llama-2-7b-chat-hf": Model(32, 4096, 11008, 32, 32, 128, 32000, tied=False),
    "meta-llama/Llama-2-13b-chat-hf": Model(40, 5120, 13824, 40, 40, 128, 32000, tied=False),
}


@dataclass(frozen=True)
class Epoch:
    """The number of training documents of a public data set, and the mean tokens of one, including padding."""

    documents: int
    tokens: float
    source: str


EPOCHS: Mapping[tuple[str, str, str | None], Epoch] = {  # by hub id, track and the benchmark's `form`
    ("openai/gsm8k", "reasoning", "natural"): Epoch(
        7473, 18 * 512 / 63.6, "the set's card; 63.6 problems in 18 rows of 512, by Llama 3's tokenizer"
    ),
    ("Yhyu13/ToolBench_toolllama_G123_dfs", "agent", "toolbench"): Epoch(
        187_494,
        8 * 4096 / 48,
        "the card of NaolBM/tool-chatml, made of it; 48 samples in 8 rows of 4096, by 20 conversations of GLPFT's "
        "authors",
    ),
}
