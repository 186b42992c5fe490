"""`edgeunet deploy`."""

from __future__ import annotations

from pathlib import Path

import click

from ..exporting.deploy import TARGETS, DeployOptions, deploy
from .common import (
    DIRECTORY,
    Choice,
    Command,
    echo,
    echo_json,
    echo_step,
    force_option,
    json_option,
    option,
)
from .completion import BundlePath
from .options import options_from


class _WithTargets(Command):
    """Its help lists the targets, and what each needs."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, and then the targets."""
        super().format_options(ctx, formatter)
        with formatter.section("Targets"):
            formatter.write_dl(
                [
                    (name, f"Makes {each.makes}. Needs {each.needs}.")
                    for name, each in TARGETS.items()
                ]
            )


@click.command("deploy", cls=_WithTargets)
@click.argument("bundle", type=BundlePath())
@option(
    "--to",
    "to",
    type=Choice(list(TARGETS)),
    metavar="TARGET",
    required=True,
    help="What is to run it: one of those below.",
)
@option("-o", "output", type=DIRECTORY, required=True, help="Directory to write.")
@options_from(DeployOptions, "options")
@force_option
@json_option
def command(
    bundle: Path,
    to: str,
    output: Path,
    options: DeployOptions,
    force: bool,
    as_json: bool,
) -> None:
    """Write a bundle's net for other programs than edgeunet.

    What was written is run on the bundle's golden frames first, as far as it runs on this machine.
    """
    flavours = deploy(bundle, to, output, options, force=force, report=echo_step)
    if as_json:
        echo_json({"target": to, "flavours": flavours, "output": str(output)})
    else:
        echo(f"wrote {output} ({', '.join(flavours)}); its README.md says how to run it")
