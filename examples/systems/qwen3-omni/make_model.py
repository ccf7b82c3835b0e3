"""Write the thinker of a Qwen3-Omni of a few megabytes, with random weights: make_model.py FOLDER"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from transformers import (
    Qwen2Tokenizer,
    Qwen3OmniMoeThinkerConfig,
    Qwen3OmniMoeThinkerForConditionalGeneration,
)
from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

# Tokens of images and sound, which this tokenizer never writes.
NOT_WRITTEN = ["image", "video", "audio", "vision_start", "vision_end", "audio_start", "audio_end"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make_tokenizer(folder: Path) -> Qwen2Tokenizer:
    """Return a tokenizer that knows each byte, and no words."""
    words = [*bytes_to_unicode().values(), *SPECIAL]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return Qwen2Tokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), additional_special_tokens=SPECIAL
    )


def main(out: Path) -> None:
    torch.manual_seed(0)
    config = Qwen3OmniMoeThinkerConfig(
        text_config={
            "vocab_size": 512,
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "rope_scaling": {"mrope_section": [2, 1, 1], "rope_type": "default", "type": "default"},
        },
        audio_config={
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 32,
            "output_dim": 32,
            "downsample_hidden_size": 32,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 4,
            "out_hidden_size": 32,
            "deepstack_visual_indexes": [0],
        },
        **{f"{name}_token_id": 500 + place for place, name in enumerate(NOT_WRITTEN)},
    )
    with tempfile.TemporaryDirectory() as folder:
        make_tokenizer(Path(folder)).save_pretrained(out)
    Qwen3OmniMoeThinkerForConditionalGeneration(config).save_pretrained(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
