"""Write an I2VGen-XL of a few kilobytes, with random weights, for pictures of 32 by 32: make_model.py FOLDER"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, I2VGenXLPipeline
from diffusers.models.unets import I2VGenXLUNet
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from transformers.models.clip.tokenization_clip import bytes_to_unicode


def tokenizer(folder: Path) -> CLIPTokenizer:
    """Return a tokenizer that knows each byte, and no words."""
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def main(out: Path) -> None:
    torch.manual_seed(0)
    unet = I2VGenXLUNet(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=32,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=4,
        attention_head_dim=4,
        num_attention_heads=None,
        norm_num_groups=2,
    )
    vae = AutoencoderKL(block_out_channels=(8,), latent_channels=4, sample_size=32, norm_num_groups=2)
    small = {"hidden_size": 4, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    with tempfile.TemporaryDirectory() as folder:
        pipeline = I2VGenXLPipeline(
            vae=vae,
            text_encoder=CLIPTextModel(CLIPTextConfig(vocab_size=1000, projection_dim=32, **small)),
            tokenizer=tokenizer(Path(folder)),
            image_encoder=CLIPVisionModelWithProjection(
                CLIPVisionConfig(projection_dim=4, image_size=32, patch_size=1, **small)
            ),
            feature_extractor=CLIPImageProcessor(crop_size=32, size=32),
            unet=unet,
            scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False),
        )
        pipeline.save_pretrained(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
