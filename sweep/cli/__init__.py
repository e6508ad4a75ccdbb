"""Arguments in, tables out."""


def main() -> None:
    """The `sweep` command: ends with the exit code of what went wrong; no traceback for a mistake."""
    from sweep.cli.commands import cli

    cli(prog_name="sweep")
