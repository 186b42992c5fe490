"""`edgeunet serve`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ..data.fit import Reading
from ..runtime.options import LoadOptions
from ..runtime.serve import open_service
from .bundle_options import StreamOptions, bundle_of, explain_choice, explain_option
from .common import DIRECTORY, Command, option
from .completion import BundlePath
from .options import options_from


@click.command("serve", cls=Command)
@click.argument("bundle", type=BundlePath(packaged=True))
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=8080,
    help="Port to listen on; 0 for a free one.",
)
@option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    help="Address to listen on. All but this machine's own need a token.",
)
@option(
    "--token",
    envvar="EDGEUNET_TOKEN",
    show_envvar=True,
    show_default="a new one if it is needed",
    help="Secret that clients must send.",
)
@option(
    "--certificate",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Serve https with this certificate (PEM). Phones give their camera to https alone.",
)
@option(
    "--key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    show_default="in the certificate's file",
    help="The certificate's private key (PEM).",
)
@option(
    "--compare",
    metavar="BUNDLE",
    type=DIRECTORY,
    help="Show a second bundle beside the first, on the same frames, at its own precision, or "
    "the one that --backend auto chooses for it.",
)
@option(
    "--record",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    show_default="no recording",
    help="Let viewers record films into this folder.",
)
@options_from(StreamOptions, "stream", section="Net")
@options_from(LoadOptions, "options", section="Net")
@explain_option
@options_from(Reading, "reading", section="Frames")
def command(
    bundle: Path,
    sources: tuple[str, ...],
    port: int,
    host: str,
    token: str | None,
    certificate: Path | None,
    key: Path | None,
    compare: Path | None,
    record: Path | None,
    options: LoadOptions,
    reading: Reading,
    stream: StreamOptions,
    explain: bool,
) -> None:
    """Show segmented cameras and videos on a web page.

    BUNDLE is what `edgeunet run` takes.

    SOURCE is what `edgeunet run` takes; a file plays in a loop. Several share the net and are shown
    side by side, each under its own name, or that in NAME=SOURCE. One that is lost is opened again,
    and holds up no other.

    The server also segments images that are sent to it, and what the camera of the device sees that
    opens the page. Ctrl-C and SIGTERM end it.
    """
    bundle = bundle_of(bundle, sources)
    if explain:
        explain_choice(bundle, stream.backend, options)
    chosen = stream.arguments(options, reading)
    with open_service(
        bundle,
        sources,
        host=host,
        port=port,
        token=token,
        certificate=certificate,
        key=key,
        compare=compare,
        record=record,
        **chosen,
    ) as service:
        click.echo(f"open {service.url}", err=True)
        service.run()
    if not service.ended:
        # The interpreter would end a thread within C++, which aborts the process.
        sys.stderr.flush()
        os._exit(0)
