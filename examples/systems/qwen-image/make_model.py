"""Write a Qwen-Image of a few megabytes, with random weights: make_model.py FOLDER"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]


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
    small = {"hidden_size": 16, "intermediate_size": 16}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 512}
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    text = Qwen2_5_VLConfig(
        text_config={**small, **heads, "rope_scaling": rope},
        vision_config={**small, "depth": 2, "num_heads": 2, "out_hidden_size": 16},
    )
    with tempfile.TemporaryDirectory() as folder:
        pipeline = QwenImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=AutoencoderKLQwenImage(
                base_dim=24,
                z_dim=4,
                dim_mult=[1, 2, 4],
                num_res_blocks=1,
                temperal_downsample=[False, True],
                latents_mean=[0.0] * 4,
                latents_std=[1.0] * 4,
            ),
            text_encoder=Qwen2_5_VLForConditionalGeneration(text),
            tokenizer=make_tokenizer(Path(folder)),
            transformer=QwenImageTransformer2DModel(
                patch_size=2,
                in_channels=16,
                out_channels=4,
                num_layers=2,
                attention_head_dim=16,
                num_attention_heads=3,
                joint_attention_dim=16,
                axes_dims_rope=(8, 4, 4),
            ),
        )
        pipeline.save_pretrained(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
