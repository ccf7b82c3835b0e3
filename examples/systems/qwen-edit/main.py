"""Qwen-Image-Edit-2509 behind FastAPI: uvicorn main:app --port 8000

    curl localhost:8000/edits -F prompt='make it night' -F image=@photo.png -o edited.png

The folder with the weights is that of the variable MODEL.
"""

import io
import os
import threading
from typing import Annotated

import pynvml
import torch
from diffusers import QwenImageEditPlusPipeline
from fastapi import FastAPI, Form, HTTPException, Response, UploadFile
from PIL import Image, UnidentifiedImageError
from prometheus_client import Counter, Gauge, make_asgi_app

RELEASE = "1"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

app = FastAPI()
app.mount("/metrics", make_asgi_app())
edits = Counter("edits", "Images that were edited")
pipeline = QwenImageEditPlusPipeline.from_pretrained(
    os.environ.get("MODEL", "/models/qwen-image-edit-2509"),
    torch_dtype=torch.bfloat16 if DEVICE == "cuda" else torch.float32,
).to(DEVICE)
pipeline.set_progress_bar_config(disable=True)
one_at_a_time = threading.Lock()

if DEVICE == "cuda":
    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    Gauge("gpu_utilisation", "Per cent").set_function(lambda: pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu)


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok", "release": RELEASE, "device": DEVICE, "torch": torch.__version__}


@app.post("/edits")
def edit(
    image: UploadFile,
    prompt: Annotated[str, Form()],
    steps: Annotated[int, Form(ge=1, le=100)] = 40,
    width: Annotated[int | None, Form(ge=16, le=2048)] = None,
    height: Annotated[int | None, Form(ge=16, le=2048)] = None,
) -> Response:
    try:
        picture = Image.open(image.file).convert("RGB")
    except UnidentifiedImageError:
        raise HTTPException(422, "image is not a picture") from None
    with one_at_a_time:
        edited = pipeline(
            image=[picture], prompt=prompt, num_inference_steps=steps, width=width, height=height
        ).images[0]
    edits.inc()
    out = io.BytesIO()
    edited.save(out, "png")
    return Response(out.getvalue(), media_type="image/png", headers={"Release": RELEASE})
