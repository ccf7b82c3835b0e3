"""The systems, and what is to be known of each besides its spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# One red point, as a PNG in base64.
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"


@dataclass(frozen=True)
class System:
    """What is to be known of a system besides its spec.

    Attributes:
        packages: Arguments of make_channel for the conda packages of the spec, besides Python.
        request: The path of the request that it has to answer, and what is sent: JSON, or with ``upload`` the
            fields of a form.
        answer: A regular expression that the answer has to match; the release is in it as RELEASE.
        change: A pin of the spec, and the pin that replaces it in the second build, as ``name==version``.
        model: The file or folder that make_model.py is told to write; the service finds it in MODEL.
        env: Variables of the service, for the tiny model.
        upload: The field of the form that has PICTURE; "" without a form.
        page: Whether it has a page that makes a video of PICTURE, for a browser.
    """

    packages: tuple[str, ...]
    request: tuple[str, Any]
    answer: str
    change: tuple[str, str]
    model: str
    env: Mapping[str, str] = field(default_factory=dict)
    upload: str = ""
    page: bool = False


SYSTEMS: Mapping[str, System] = {
    "pytorch-serving": System(
        packages=(
            *("torch==2.0.1", "torchvision==0.15.2", "torchaudio==2.0.2", "numpy==1.24.3"),
            *("--alias", "pytorch=torch"),
        ),
        request=("/predict", {"rows": [[1, 2, 9, 3], [8, 1, 2, 3]]}),
        answer=r'"classes":\s*\[2,\s*0\],\s*"release":\s*"RELEASE"',
        change=("flask==2.3.3", "flask==2.3.2"),
        model="model.pt",
    ),
    "image-to-video": System(
        packages=("setuptools<81",),
        request=("/run/animate", {"data": ["data:image/png;base64," + PICTURE, "the sea"]}),
        answer=r"release RELEASE: 4 frames",
        change=("diffusers==0.30.3", "diffusers==0.30.2"),
        model="i2vgen-xl",
        page=True,
        env={"WIDTH": "32", "HEIGHT": "32", "FRAMES": "4", "STEPS": "2"},
    ),
    "qwen-edit": System(
        packages=(),
        request=("/edits", {"prompt": "make it night", "steps": "1", "width": "32", "height": "32"}),
        upload="image",
        answer=r"release RELEASE, image/png of [\d,]+ bytes",
        change=("transformers==4.57.6", "transformers==4.57.3"),
        model="qwen-image-edit",
    ),
    "qwen-image": System(
        packages=(),
        request=("/images", {"prompt": "a lighthouse", "width": 32, "height": 32, "steps": 2}),
        answer=r"release RELEASE, image/png of [\d,]+ bytes",
        change=("transformers==4.57.6", "transformers==4.57.3"),
        model="qwen-image",
    ),
    "qwen3-omni": System(
        packages=(),
        request=("/answers", {"prompt": "Who are you?", "tokens": 8}),
        answer=r'"tokens":\d+,"release":"RELEASE"',
        change=("transformers==4.57.6", "transformers==4.57.3"),
        model="qwen3-omni",
    ),
}


def changed(spec: str, change: tuple[str, str]) -> str:
    """Return the text of a spec with one pin replaced; raise ValueError if that pin isn't in it exactly once."""
    before, after = change
    if spec.count(before) != 1:
        raise ValueError(f"{before} is {spec.count(before)} times in the spec")
    return spec.replace(before, after)
