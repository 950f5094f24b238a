"""The image of all pods that are not Penstock: Penstock's own image, plus confluent-kafka, its instrumentation and our programs.

It starts from the image under test, because that has the Python, the ledger and OpenTelemetry's SDK already. The wheels are
unpacked outside by pip: where these scenarios run, pip inside a container may not reach or trust anything.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

from docker_images import docker, forget_other_tags, run

HERE = Path(__file__).resolve().parent
PROGRAMS = ("kafka_load.py", "pod_load.py", "pod_receiver.py", "pod_traced.py")
IMAGE = "penstock-e2e-client"
CLIENT_PACKAGES = (
    "confluent-kafka",
    "opentelemetry-instrumentation-confluent-kafka",
    # What the instrumentation needs and Penstock does not.
    "opentelemetry-instrumentation",
    "packaging",
    "wrapt",
)
DOCKERFILE = """\
ARG BASE
FROM $BASE
COPY . /client/
ENV PYTHONPATH=/client:/client/site PYTHONDONTWRITEBYTECODE=1
"""


def build_client_image(product_image: str) -> str:
    """Builds the image from the product's and returns its name, with a tag that changes with its content."""
    pinned = [f"{package}=={metadata.version(package)}" for package in CLIENT_PACKAGES]
    python = docker("run", "--rm", "--entrypoint", "python3", product_image, "-c", _PRINT_VERSION)
    context = HERE.parent / "build" / "e2e-client"
    site = context / "site"
    stamp = context / ".unpacked"
    wanted = f"{' '.join(pinned)} for Python {python}"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(context, ignore_errors=True)
        _unpack(pinned, python, site)
        stamp.write_text(wanted)
    digest = hashlib.sha256(f"{docker('image', 'inspect', '-f', '{{.Id}}', product_image)}{wanted}".encode())
    for program in PROGRAMS:
        shutil.copy(HERE / program, context / program)
        digest.update((HERE / program).read_bytes())
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / ".dockerignore").write_text("Dockerfile\n.dockerignore\n.unpacked\n")
    image = f"{IMAGE}:{digest.hexdigest()[:12]}"
    docker("build", "-q", "--build-arg", f"BASE={product_image}", "-t", image, str(context))
    forget_other_tags(image)
    return image


_PRINT_VERSION = "import sys; print('.'.join(map(str, sys.version_info[:2])))"


def _unpack(requirements: list[str], python: str, site: Path) -> None:
    """Unpacks the wheels for the image's Python, which need not be ours."""
    machine = platform.machine()
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in (17, 28, 34)] + [f"manylinux2014_{machine}"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", "--target", str(site), *requirements]
    for name in platforms:
        command += ["--platform", name]
    run(*command)
