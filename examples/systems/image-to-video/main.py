"""I2VGen-XL behind a Gradio page: python main.py --server-port=7860 --no-gradio-queue

The folder with the weights is that of the variable MODEL.
"""

import argparse
import os
import time
from pathlib import Path

import gradio
import imageio
import numpy
import torch
from diffusers import I2VGenXLPipeline
from PIL import Image

RELEASE = "1"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# the smallest pictures are those of the tiny model
WIDTH, HEIGHT, FRAMES, STEPS = (
    int(os.environ.get(name, default))
    for name, default in (("WIDTH", "1280"), ("HEIGHT", "704"), ("FRAMES", "16"), ("STEPS", "50"))
)

pipeline = I2VGenXLPipeline.from_pretrained(os.environ.get("MODEL", "/models/i2vgen-xl")).to(DEVICE)
outputs = Path(os.environ.get("OUTPUTS", "outputs"))


def animate(image: Image.Image, prompt: str) -> tuple[str, str]:
    """Return the path of a video, and a line about it."""
    begin = time.monotonic()
    result = pipeline(
        prompt=prompt,
        image=image.convert("RGB").resize((WIDTH, HEIGHT)),
        width=WIDTH,
        height=HEIGHT,
        num_frames=FRAMES,
        num_inference_steps=STEPS,
        output_type="np",
    )
    frames = (numpy.asarray(result.frames[0]) * 255).round().astype("uint8")
    outputs.mkdir(exist_ok=True)
    path = outputs / f"{time.strftime('%Y%m%d-%H%M%S')}.mp4"
    imageio.mimwrite(path, frames, fps=8, macro_block_size=1)
    return str(path), f"release {RELEASE}: {len(frames)} frames on {DEVICE} in {time.monotonic() - begin:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--server-name", default="0.0.0.0")
    parser.add_argument("--server-port", type=int, default=7860)
    parser.add_argument("--no-gradio-queue", action="store_true")
    options = parser.parse_args()
    page = gradio.Interface(
        animate,
        inputs=[gradio.Image(type="pil", label="image"), gradio.Textbox(label="prompt")],
        outputs=[gradio.Video(label="video"), gradio.Textbox(label="about")],
        title="Image to video",
        allow_flagging="never",
        api_name="animate",
    )
    if not options.no_gradio_queue:
        page.queue()
    page.launch(server_name=options.server_name, server_port=options.server_port, show_api=False)


if __name__ == "__main__":
    main()
