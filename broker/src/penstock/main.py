"""Where the `penstock` program starts."""

from __future__ import annotations


def main() -> None:
    """Runs the command line."""
    from penstock.cli.main import cli

    cli()


if __name__ == "__main__":
    main()
