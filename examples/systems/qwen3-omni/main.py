"""Qwen3-Omni behind FastAPI: uvicorn main:app --port 8000

    curl localhost:8000/answers -H 'Content-Type: application/json' -d '{"prompt": "Who are you?"}'

The folder with the weights is that of the variable MODEL. Text to text here; images and sound are read with
qwen_omni_utils in the same way.
"""

import os
import threading

import torch
from fastapi import FastAPI, Request
from prometheus_client import Counter, make_asgi_app
from pydantic import BaseModel, Field
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address
from transformers import AutoTokenizer, Qwen3OmniMoeThinkerForConditionalGeneration

RELEASE = "1"
MODEL = os.environ.get("MODEL", "/models/qwen3-omni")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

app = FastAPI()
app.mount("/metrics", make_asgi_app())
app.state.limiter = limiter = Limiter(key_func=get_remote_address)
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
answers = Counter("answers", "Prompts that were answered")
tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = Qwen3OmniMoeThinkerForConditionalGeneration.from_pretrained(MODEL, dtype="auto").to(DEVICE).eval()
one_at_a_time = threading.Lock()


class Question(BaseModel):
    prompt: str
    tokens: int = Field(128, ge=1, le=4096)


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok", "release": RELEASE, "device": DEVICE, "torch": torch.__version__}


@app.post("/answers")
@limiter.limit("60/minute")
def answer(request: Request, question: Question) -> dict[str, str | int]:
    asked = tokenizer(question.prompt, return_tensors="pt").to(DEVICE)
    with one_at_a_time, torch.inference_mode():
        tokens = model.generate(**asked, max_new_tokens=question.tokens)[0, asked["input_ids"].shape[1] :]
    answers.inc()
    return {"answer": tokenizer.decode(tokens), "tokens": len(tokens), "release": RELEASE}
