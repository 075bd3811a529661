"""
    python model_folders.py MODEL.gguf OUT

Dequantises a GGUF file of the Llama family (tokenizer `smollm`, tied head) into the Hugging Face folders OUT/f32 and
OUT/bf16, so that every program of the comparison reads the same weights.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def hf_name(name: str) -> str:
    """`blk.0.ffn_up.weight` -> `model.layers.0.mlp.up_proj.weight`."""
    if name.startswith("blk."):
        _, layer, kind, _ = name.split(".")
        return f"model.layers.{layer}.{NAMES[kind]}.weight"
    return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[name]


def unpermute(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undoes llama.cpp's order of the rows of q and k: of each head, row i and row i + head_dim/2 side by side."""
    return rows.reshape(heads, len(rows) // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def config(field) -> dict:
    heads = field("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "head_dim": field("llama.embedding_length") // heads,
        "hidden_act": "silu",
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "max_position_embeddings": field("llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": field("llama.block_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "rms_norm_eps": field("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": field("llama.rope.freq_base"),
        "tie_word_embeddings": True,
        "vocab_size": field("llama.vocab_size"),
    }


def tokenizer(field) -> Tokenizer:
    """`smollm` of llama.cpp: every digit by itself, then GPT-2's byte-level BPE."""
    if field("tokenizer.ggml.pre") != "smollm":
        raise SystemExit(f"tokenizer.ggml.pre is {field('tokenizer.ggml.pre')}, expected smollm")
    tokens = field("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    ])
    made.decoder = decoders.ByteLevel()
    control = [t for t, kind in zip(tokens, field("tokenizer.ggml.token_type")) if kind == gguf.TokenType.CONTROL]
    made.add_special_tokens([AddedToken(token, normalized=False) for token in control])
    return made


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    reader = gguf.GGUFReader(source)

    def field(name: str):
        return reader.fields[name].contents()

    heads = {"attn_q": field("llama.attention.head_count"), "attn_k": field("llama.attention.head_count_kv")}
    weights = {}
    for tensor in reader.tensors:
        array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        n_heads = heads.get(tensor.name.split(".")[-2])
        array = unpermute(array, n_heads) if n_heads else array
        weights[hf_name(tensor.name)] = torch.tensor(array, dtype=torch.float32)
    for name, dtype in DTYPES.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        save_file({n: t.to(dtype) for n, t in weights.items()}, folder / "model.safetensors", {"format": "pt"})
        stored = {"torch_dtype": str(dtype).removeprefix("torch.")}
        (folder / "config.json").write_text(json.dumps(config(field) | stored, indent=2) + "\n")
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}\n')
        tokenizer(field).save(str(folder / "tokenizer.json"))


main()
