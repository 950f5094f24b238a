"""Images that brokers are upgraded to, made from the image under test."""

from __future__ import annotations

import tempfile
from pathlib import Path

from docker_images import docker, forget_other_tags

IMAGE = "penstock-e2e-next"


def build_next_image(product_image: str) -> str:
    """The same release under another name and digest; returns the name."""
    image = f"{IMAGE}:{product_image.rpartition('-')[2]}"
    with tempfile.TemporaryDirectory() as context:
        (Path(context) / "Dockerfile").write_text(f"FROM {product_image}\nLABEL next=yes\n")
        docker("build", "-q", "-t", image, context)
    forget_other_tags(image)
    return image
