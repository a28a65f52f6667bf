"""`audioae doctor`: what works on this machine, and the command that mends what does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from audioae.cli.machine import Finding

MISSING = 3  # exit code: a model or package is missing
COLOURS = {"ok": "green", "absent": "yellow", "broken": "red"}


@click.command("doctor")
@click.option(
    "--need",
    multiple=True,
    metavar="EXTRA",
    help="An extra that has to work too, such as train or media; may be given again.  [default: "
    "what cleans recordings]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as a JSON object on stdout.")
@click.pass_context
def command(ctx: click.Context, need: tuple[str, ...], as_json: bool) -> None:
    """Examine this installation: packages, formats, devices, models.

    Every model in the package is compared with its sha256 and cleans a second of made-up sound.
    Exit code 3 if something needed is missing or broken; beside it stands the command that mends
    it. Nothing is changed, and no network connection is made.
    """
    from audioae.cli.machine import examine

    findings = []
    for finding in examine(need):
        findings.append(finding)
        if not as_json:
            _show(finding)
    failed = [finding for finding in findings if finding.failed]
    if as_json:
        click.echo(
            json.dumps({"ok": not failed, "findings": [finding.to_dict() for finding in findings]})
        )
    else:
        names = ", ".join(f"{finding.subject} {finding.name}" for finding in failed)
        click.echo(f"Needed and not working: {names}." if failed else "Everything needed works.")
    if failed:
        ctx.exit(MISSING)


def _show(finding: Finding) -> None:
    state = click.style(finding.state.ljust(7), fg=COLOURS[finding.state])
    click.echo(f"{state} {finding.subject:<9} {finding.name:<13} {finding.found}")
    if finding.mend and finding.state != "ok":
        click.echo(
            f"{'':<32}{'get' if finding.state == 'absent' else 'mend'} it with: {finding.mend}"
        )
