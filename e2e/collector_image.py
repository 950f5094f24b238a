"""The image of OpenTelemetry's Collector: a base with a shell, because scenarios read its file, and the program."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from docker_images import docker, forget_other_tags

IMAGE = "penstock-e2e-collector"
DOCKERFILE = """\
ARG BASE
FROM $BASE
COPY collector /collector
USER 10001:10001
ENTRYPOINT ["/collector"]
"""


def build_image_of(program: Path, base: str) -> str:
    """Builds the image with this program and returns its name, with a tag that changes with the program."""
    with program.open("rb") as file:
        image = f"{IMAGE}:{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
    context = Path(__file__).resolve().parent.parent / "build" / "e2e-collector"
    context.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, context / "collector")
    (context / "Dockerfile").write_text(DOCKERFILE)
    docker("build", "-q", "--build-arg", f"BASE={base}", "-t", image, str(context))
    forget_other_tags(image)
    return image
