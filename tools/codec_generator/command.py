"""Writes the generated modules, or with --check compares them with what would be written now."""

import argparse
import sys
from pathlib import Path

from codec_generator.kafka_schemas import SchemasMissingError, read_schemas
from codec_generator.modules import HEADER, module_text, table_text
from codec_generator.schemas import Message, read_message, snake_case
from codec_generator.served import APIS, DATA, KAFKA_CLIENTS_VERSION, Served

TARGET = Path(__file__).resolve().parents[2] / "broker" / "src" / "penstock" / "codec" / "kafka" / "generated"


def generate() -> dict[str, str]:
    """All generated files by name."""
    schemas = read_schemas(KAFKA_CLIENTS_VERSION)
    rows: list[tuple[Served, Message]] = []
    files = {"__init__.py": f'"""One module per API of the Kafka protocol.\n\n{HEADER}\n"""\n'}
    for served in APIS:
        request = read_message(schemas[f"{served.name}Request"])
        response = read_message(schemas[f"{served.name}Response"])
        rows.append((served, request))
        files[f"{snake_case(served.name)}.py"] = module_text(
            served, [("request", request), ("response", response)]
        )
    for served in DATA:
        files[f"{snake_case(served.name)}.py"] = module_text(
            served, [("data", read_message(schemas[served.name]))]
        )
    files["table.py"] = table_text(rows)
    return files


def differences(files: dict[str, str], folder: Path) -> list[str]:
    """Names of files that are missing, differ, or should not be there."""
    names = [
        name
        for name, text in files.items()
        if not (folder / name).exists() or (folder / name).read_text() != text
    ]
    return sorted(names + [path.name for path in folder.glob("*.py") if path.name not in files])


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when all is written or equal, 1 when --check finds a difference or the schemas cannot be had."""
    parser = argparse.ArgumentParser(
        description="Write the Kafka wire codec from the schemas of the kafka-clients jar."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when the committed code differs"
    )
    options = parser.parse_args(arguments)
    try:
        files = generate()
    except SchemasMissingError as error:
        print(error, file=sys.stderr)
        return 1
    changed = differences(files, TARGET)
    if options.check:
        if changed:
            print(
                f"The generated Kafka codec differs from what the generator writes now ({', '.join(changed)}): "
                "run tools/generate-kafka-codec and commit what it wrote.",
                file=sys.stderr,
            )
        return 1 if changed else 0
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in files:
            (TARGET / name).write_text(files[name])
        else:
            (TARGET / name).unlink()
    print(f"{len(files)} files, {len(changed)} of them changed")
    return 0
