"""`audioae completion SHELL`: the script that lets a shell complete commands, options, files and
names of models.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete commands, options, files and names of models.

    \b
    bash  eval "$(audioae completion bash)"                                     in ~/.bashrc
    zsh   eval "$(audioae completion zsh)"                                      in ~/.zshrc, after compinit
    fish  audioae completion fish > ~/.config/fish/completions/audioae.fish     once
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click writes no script for {shell}")
    script = kind(ctx.find_root().command, {}, "audioae", "_AUDIOAE_COMPLETE").source()
    click.echo(script.encode(), nl=False)  # as bytes: no shell reads the line ends of Windows


def complete_models(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """The names of shipped models that begin with `incomplete`; where none does, it is a path."""
    from audioae.errors import AudioaeError
    from audioae.pretrained import list_models

    try:
        names = [entry.name for entry in list_models() if entry.name.startswith(incomplete)]
    except (
        AudioaeError
    ):  # a damaged installation: `audioae doctor` tells, a shell's prompt should not
        names = []
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]
