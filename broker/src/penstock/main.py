"""Where the console script `penstock` and `python -m penstock.main` begin."""

from __future__ import annotations


def main() -> None:
    """Runs the command line; does not return."""
    from penstock.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
