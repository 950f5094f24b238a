"""Reads the project's own source: what no linter knows about our habits.

Each rule names the file and says what to do instead. A rule that is in the way is discussed, not switched off here.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 80
BLOB_BYTES_MAX = 600 * 1024
# Wheels of releases that upgrades begin from: a checkout without history could not make them again.
FROZEN = "broker/tests/replicated/frozen/"
FROZEN_BYTES_MAX = 1024 * 1024
GENERATED = "codec/kafka/generated/"

BANNED_CALLS = {
    "time.sleep": "wait for a condition with a deadline, or let time be an argument",
    "pickle.loads": "use msgspec: pickles run code",
    "pickle.dumps": "use msgspec",
    "eval": "parse the value",
    "exec": "write the code",
    "os.system": "use subprocess.run with a list",
}
# Black-box drivers wait for other processes, which is what sleeping is for.
MAY_SLEEP = ("e2e/", "bench/", "/testing/", "/tests/", "tools/")


def tracked(*endings: str) -> list[Path]:
    """Files that git tracks or would, below the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in names if name.endswith(endings) and (ROOT / name).is_file()]


def sources() -> list[Path]:
    return [path for path in tracked(".py") if GENERATED not in path.as_posix()]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_test(path: Path) -> bool:
    return "/tests/" in path.as_posix() or path.name.startswith(("test_", "conftest"))


def test_modules_are_short_enough_to_be_read() -> None:
    long = [
        f"{name(path)}: {count} lines; over {MODULE_LINES_MAX} it is two things: split it"
        for path in sources()
        if (count := len(path.read_text().splitlines())) > MODULE_LINES_MAX
    ]
    assert not long, "\n".join(long)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_functions_fit_a_screen() -> None:
    long = []
    for path in sources():
        for function in functions(ast.parse(path.read_text())):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                long.append(
                    f"{name(path)}: {function.name} has {lines} lines; keep the branching, move the leaves out"
                )
    assert not long, "\n".join(long)


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def test_no_banned_call() -> None:
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            call = dotted(node.func)
            if call not in BANNED_CALLS:
                continue
            if call == "time.sleep" and any(part in name(path) for part in MAY_SLEEP):
                continue
            if call == "exec" and is_test(path):
                continue  # a generator's test has to run what it wrote
            found.append(f"{name(path)}:{node.lineno}: {call}: {BANNED_CALLS[call]}")
    assert not found, "\n".join(found)


def test_modules_say_what_they_are_for() -> None:
    silent = [
        f"{name(path)}: begin with a docstring: what problem, what idea, what it leaves to others"
        for path in sources()
        if not is_test(path)
        and path.read_text().strip()
        and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert not silent, "\n".join(silent)


def test_nothing_is_left_undone_without_a_reason() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))")
    found = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in tracked(".py", ".sh", ".yaml", ".md")
        if path.name != Path(__file__).name
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marks.search(line) or "NotImplementedError" in line
    ]
    assert not found, "finish it, or name the issue as TODO(#n):\n" + "\n".join(found)


def test_no_swallowed_exception() -> None:
    found = []
    for path in sources():
        if is_test(path):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ExceptHandler) or node.type is None:
                continue
            broad = dotted(node.type) in ("Exception", "BaseException")
            empty = all(isinstance(item, ast.Pass) for item in node.body)
            if broad and empty:
                found.append(
                    f"{name(path)}:{node.lineno}: say which error is expected, and why it may be passed over"
                )
    assert not found, "\n".join(found)


def test_test_files_have_names_of_their_own() -> None:
    seen: dict[str, str] = {}
    twice = []
    for path in sources():
        if not path.name.startswith("test_"):
            continue
        if path.name in seen:
            twice.append(f"{name(path)} and {seen[path.name]}: pytest cannot collect two of one name")
        seen[path.name] = name(path)
    assert not twice, "\n".join(twice)


def test_the_operator_folder_does_not_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator/__init__.py").exists(), (
        "operator/__init__.py hides Python's operator module: remove it"
    )


def test_no_host_of_a_registry_and_no_path_of_one_machine() -> None:
    hosts = ["py" + "pi.org", "python" + "hosted.org", "registry.npm" + "js", "proxy.go" + "lang", "sum.go" + "lang",
             "maven" + ".org", "deb.deb" + "ian.org", "crates" + ".io"]  # fmt: skip
    paths = ["/wo" + "rk/", "/ro" + "ot/"]
    found = []
    for path in tracked(""):
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name(path)}: {word}" for word in hosts + paths if word in text]
    assert not found, "name packages, not hosts; use relative paths:\n" + "\n".join(found)


def test_no_large_blob() -> None:
    large = [
        name(path)
        for path in tracked("")
        if path.stat().st_size > (FROZEN_BYTES_MAX if name(path).startswith(FROZEN) else BLOB_BYTES_MAX)
    ]
    assert not large, "fetch or generate large files instead of committing them: " + ", ".join(large)


def imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", ["broker/src/penstock", "operator/src/penstock_operator"])
def test_every_module_is_used(package: str) -> None:
    used = {imported for path in sources() for imported in imported_names(path)}
    entry_points = (ROOT / "pyproject.toml").read_text()
    unused = []
    for path in sources():
        if not name(path).startswith(package) or path.name == "__init__.py":
            continue
        module = name(path).split("/src/")[1].removesuffix(".py").replace("/", ".")
        if module not in used and f"{module}:" not in entry_points and path.name != "__main__.py":
            unused.append(f"{name(path)}: nobody imports it: remove it, or use it")
    assert not unused, "\n".join(unused)
