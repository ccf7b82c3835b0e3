"""Qwen-Image behind FastAPI: uvicorn main:app --port 8000

    curl localhost:8000/images -H 'Content-Type: application/json' -d '{"prompt": "a lighthouse"}' -o image.png

The folder with the weights is that of the variable MODEL. QUANTISE=4 or 8 loads the transformer in as many bits,
through bitsandbytes.
"""

import io
import os
import threading

import torch
from diffusers import BitsAndBytesConfig, QwenImagePipeline, QwenImageTransformer2DModel
from fastapi import FastAPI, Response
from prometheus_client import Counter, make_asgi_app
from pydantic import BaseModel, Field

RELEASE = "1"
MODEL = os.environ.get("MODEL", "/models/qwen-image")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32


def load() -> QwenImagePipeline:
    parts = {}
    if bits := os.environ.get("QUANTISE"):
        how = BitsAndBytesConfig(load_in_4bit=bits == "4", load_in_8bit=bits == "8")
        parts["transformer"] = QwenImageTransformer2DModel.from_pretrained(
            MODEL, subfolder="transformer", quantization_config=how, torch_dtype=TYPE
        )
    return QwenImagePipeline.from_pretrained(MODEL, torch_dtype=TYPE, **parts).to(DEVICE)


app = FastAPI()
app.mount("/metrics", make_asgi_app())
images = Counter("images", "Images that were made")
pipeline = load()
pipeline.set_progress_bar_config(disable=True)
one_at_a_time = threading.Lock()


class Wish(BaseModel):
    prompt: str
    width: int = Field(1024, ge=16, le=2048)
    height: int = Field(1024, ge=16, le=2048)
    steps: int = Field(50, ge=1, le=100)
    seed: int = 0


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok", "release": RELEASE, "device": DEVICE, "torch": torch.__version__}


@app.post("/images")
def make_image(wish: Wish) -> Response:
    with one_at_a_time:
        image = pipeline(
            wish.prompt,
            width=wish.width,
            height=wish.height,
            num_inference_steps=wish.steps,
            generator=torch.Generator(DEVICE).manual_seed(wish.seed),
        ).images[0]
    images.inc()
    out = io.BytesIO()
    image.save(out, "png")
    return Response(out.getvalue(), media_type="image/png", headers={"Release": RELEASE})
