"""A TorchScript model behind Flask.

python make_model.py model.pt
MODEL=model.pt flask --app main run --port 5000
curl localhost:5000/predict -H 'Content-Type: application/json' -d '{"rows": [[1, 2, 3, 4]]}'
"""

import os

import torch
from flask import Flask, Response, jsonify, request

RELEASE = "1"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

app = Flask(__name__)
model = torch.jit.load(os.environ.get("MODEL", "/models/model.pt"), map_location=DEVICE).eval()


@app.get("/healthz")
def healthz() -> Response:
    return jsonify(status="ok", release=RELEASE, device=DEVICE, torch=torch.__version__)


@app.post("/predict")
def predict() -> Response:
    rows = torch.tensor(request.get_json()["rows"], dtype=torch.float32, device=DEVICE)
    with torch.inference_mode():
        classes = model(rows).argmax(dim=1)
    return jsonify(classes=classes.tolist(), release=RELEASE)
