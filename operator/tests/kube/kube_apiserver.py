"""A real Kubernetes API server for tests: kube-apiserver and etcd as child processes on loopback.

Schemas, CEL rules, server-side apply, status subresources and optimistic locking are behaviour of the API server;
a fake would only repeat what we believe about them. There are no controllers and no kubelet here: a StatefulSet stays
what was applied, pods are whatever a test creates. Scenarios that need them are in `e2e/`.

A test folder's `conftest.py` takes it in with

    from kube_apiserver import kube_apiserver, pytest_collection_finish

The hook builds the programs before the first test when they are missing (minutes, once per machine), so that no
test's own time limit is spent on it.
"""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("kube-apiserver", "etcd", "kubectl")
BUILDER = Path(__file__).resolve().parents[3] / "e2e" / "kind" / "binaries.sh"
BUILD_SECONDS_MAX = 3600
START_SECONDS_MAX = 90
STOP_SECONDS_MAX = 15
START_ATTEMPTS_MAX = 3
"""A free port can be taken by somebody else between finding and using it; then both programs start anew."""
TOKEN = "token-of-the-test-administrator"
LOG_TAIL_CHARACTERS = 4000


@dataclass(frozen=True)
class KubeApiServer:
    """Where the server is and how to get in; the token belongs to a member of `system:masters`, RBAC is on."""

    url: str
    token: str
    ca_file: Path
    kubeconfig: Path
    kubectl_program: Path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs kubectl against the server as its administrator; the caller looks at the return code."""
        return subprocess.run(
            [str(self.kubectl_program), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


def ensure_binaries() -> Path:
    """The folder that holds the programs of `PROGRAMS`; builds the missing ones. Skips nothing: a failure is an error."""
    done = subprocess.run(
        [str(BUILDER), *PROGRAMS], stdout=subprocess.PIPE, text=True, check=False, timeout=BUILD_SECONDS_MAX
    )
    if done.returncode != 0:
        raise RuntimeError(f"{BUILDER} could not build {', '.join(PROGRAMS)}: its own output above says why")
    return Path(done.stdout.splitlines()[-1])


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds before the first test starts, when a collected test uses the server."""
    if session.config.option.collectonly:
        return
    if any("kube_apiserver" in getattr(item, "fixturenames", ()) for item in session.items):
        ensure_binaries()


@pytest.fixture(scope="session")
def kube_apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiServer]:
    """One API server for the whole test session, stopped at its end."""
    binaries = ensure_binaries()
    folder = tmp_path_factory.mktemp("kube-apiserver")
    files = _write_certificates(folder)
    for attempt in range(1, START_ATTEMPTS_MAX + 1):
        processes: list[_Process] = []
        try:
            server = _start(binaries, folder / str(attempt), files, processes)
        except _NotStartedError:
            _stop(processes)
            if attempt == START_ATTEMPTS_MAX:
                raise
            continue
        except BaseException:
            _stop(processes)
            raise
        try:
            yield server
        finally:
            _stop(processes)
        return


class _NotStartedError(Exception):
    """A program ended, or did not answer in time; the message holds the end of its log."""


@dataclass(frozen=True)
class _Files:
    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class _Process:
    name: str
    child: subprocess.Popen[bytes]
    log: Path

    def complain(self, what: str) -> _NotStartedError:
        tail = self.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]
        return _NotStartedError(f"{self.name} {what}; the end of its log:\n{tail}")


def _write_certificates(folder: Path) -> _Files:
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    files = _Files(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority.cert_pem.write_to_path(str(files.authority))
    server.private_key_pem.write_to_path(str(files.key))
    for position, part in enumerate(server.cert_chain_pems):
        part.write_to_path(str(files.certificate), append=position > 0)
    return files


def _start(binaries: Path, folder: Path, files: _Files, processes: list[_Process]) -> KubeApiServer:
    """Starts both and waits until the server is ready; what was started is in `processes` whatever happens."""
    folder.mkdir()
    client_port, peer_port, secure_port = _free_ports(3)
    etcd_url = f"http://127.0.0.1:{client_port}"
    peer_url = f"http://127.0.0.1:{peer_port}"
    etcd = [
        *(
            "--name",
            "default",
            "--data-dir",
            str(folder / "etcd"),
            "--unsafe-no-fsync",
            "--log-level",
            "warn",
        ),
        *("--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url),
        *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
        *("--initial-cluster", f"default={peer_url}"),
    ]
    processes.append(_run(binaries / "etcd", etcd, folder))

    tokens = folder / "tokens.csv"
    tokens.write_text(f"{TOKEN},administrator,administrator,system:masters\n")
    url = f"https://127.0.0.1:{secure_port}"
    apiserver = [
        f"--etcd-servers={etcd_url}",
        "--bind-address=127.0.0.1",
        f"--secure-port={secure_port}",
        f"--cert-dir={folder}",
        f"--tls-cert-file={files.certificate}",
        f"--tls-private-key-file={files.key}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        f"--service-account-issuer={url}",
        f"--service-account-key-file={files.key}",
        f"--service-account-signing-key-file={files.key}",
        # Nobody makes a namespace's service accounts here, and this plugin would refuse every pod without one.
        "--disable-admission-plugins=ServiceAccount",
        # There is no node whose address the service `kubernetes` could have.
        "--endpoint-reconciler-type=none",
    ]
    processes.append(_run(binaries / "kube-apiserver", apiserver, folder))
    _wait_ready(url, files.authority, processes)
    kubeconfig = _write_kubeconfig(folder, url, files.authority)
    return KubeApiServer(url, TOKEN, files.authority, kubeconfig, binaries / "kubectl")


def _run(program: Path, arguments: list[str], folder: Path) -> _Process:
    log = folder / f"{program.name}.log"
    command = [str(program), *arguments]
    if setpriv := shutil.which("setpriv"):
        # A test run that is killed cannot stop its children; the kernel does it for us.
        command = [setpriv, "--pdeathsig", "KILL", *command]
    with log.open("wb") as output:
        return _Process(program.name, subprocess.Popen(command, stdout=output, stderr=output), log)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


def _wait_ready(url: str, authority: Path, processes: list[_Process]) -> None:
    context = ssl.create_default_context(cafile=str(authority))
    request = urllib.request.Request(f"{url}/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        for process in processes:
            if process.child.poll() is not None:
                raise process.complain(f"ended with code {process.child.returncode}")
        try:
            with opener.open(request, timeout=5):
                return
        except urllib.error.HTTPError as error:
            error.close()  # 500 until every start hook has run
        except OSError:
            pass  # nobody listens yet
        if time.monotonic() > deadline:
            raise processes[-1].complain(f"was not ready within {START_SECONDS_MAX} s")
        time.sleep(0.1)


def _write_kubeconfig(folder: Path, url: str, authority: Path) -> Path:
    """A kubeconfig in JSON, which is YAML too."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": "administrator", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "administrator"}}],
        "current-context": "test",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(content, indent=1))
    return path


def _stop(processes: list[_Process]) -> None:
    """Ends the API server before the etcd it writes to."""
    for process in reversed(processes):
        process.child.terminate()
        try:
            process.child.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.child.kill()
            process.child.wait()
