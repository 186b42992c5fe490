"""The command line, run in the process of the tests."""

from __future__ import annotations

from click.testing import CliRunner, Result

from edgeunet.cli import main


def call(*arguments: object) -> Result:
    """Run a command; an exception that it lets through is raised."""
    return CliRunner().invoke(
        main, [str(argument) for argument in arguments], catch_exceptions=False
    )


def succeeds(*arguments: object) -> Result:
    """What a command comes to that must not fail."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result


def fails(code: int, *arguments: object) -> str:
    """What a failing command says on stderr; it prints nothing on stdout."""
    result = call(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr
