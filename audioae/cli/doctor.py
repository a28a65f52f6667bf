"""`audioae doctor`: check the installation and print the commands that repair it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from audioae.cli.machine import SystemCheck

MISSING = 3  # exit code: a model or package is missing
COLOURS = {"ok": "green", "absent": "yellow", "broken": "red"}


@click.command("doctor")
@click.option(
    "--need",
    multiple=True,
    metavar="EXTRA",
    help="Require an extra too, such as train or media. Repeatable.  [default: core packages only]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON on stdout.")
@click.pass_context
def command(ctx: click.Context, need: tuple[str, ...], as_json: bool) -> None:
    """Check this installation: packages, formats, devices, models.

    Compares every model in the package with its sha256 and runs it on one second of synthetic
    audio. For whatever is missing or broken, prints the command that installs or repairs it.
    Changes nothing and needs no network.

    Exit codes: 0 everything needed works, 3 something needed is missing or broken.
    """
    from audioae.cli.machine import examine

    checks = []
    for check in examine(need):
        checks.append(check)
        if not as_json:
            _show(check)
    failed = [check for check in checks if check.failed]
    if as_json:
        click.echo(
            json.dumps({"ok": not failed, "findings": [check.to_dict() for check in checks]})
        )
    else:
        names = ", ".join(f"{check.subject} {check.name}" for check in failed)
        click.echo(f"Needed and not working: {names}." if failed else "Everything needed works.")
    if failed:
        ctx.exit(MISSING)


def _show(check: SystemCheck) -> None:
    state = click.style(check.state.ljust(7), fg=COLOURS[check.state])
    click.echo(f"{state} {check.subject:<9} {check.name:<13} {check.found}")
    if check.mend and check.state != "ok":
        verb = "install" if check.state == "absent" else "repair"
        click.echo(f"{'':<32}{verb} with: {check.mend}")
