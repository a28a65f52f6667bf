"""`audioae completion`: print shell completion scripts, and complete model names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

if TYPE_CHECKING:
    from audioae.pretrained import ModelEntry

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a completion script for SHELL.

    It completes commands, options, files and model names. To install it:

    \b
    bash  add to ~/.bashrc:                eval "$(audioae completion bash)"
    zsh   add to ~/.zshrc after compinit:  eval "$(audioae completion zsh)"
    fish  run once:
          audioae completion fish > ~/.config/fish/completions/audioae.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click has no completion script for {shell}")
    script = kind(ctx.find_root().command, {}, "audioae", "_AUDIOAE_COMPLETE").source()
    click.echo(script.encode(), nl=False)  # as bytes: shells do not accept the line ends of Windows


def complete_models(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """The names of shipped models that begin with `incomplete`; if none does, complete a path."""
    from audioae.pretrained import list_models

    return _completed(list_models, incomplete)


def complete_denoisers(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """`complete_models` without the autoencoders."""
    from audioae.pretrained import list_denoisers

    return _completed(list_denoisers, incomplete)


def _completed(
    list_entries: Callable[[], list[ModelEntry]], incomplete: str
) -> list[CompletionItem[str]]:
    from audioae.errors import AudioaeError

    try:
        names = [entry.name for entry in list_entries() if entry.name.startswith(incomplete)]
    except AudioaeError:  # a damaged installation: errors must not disturb the prompt
        names = []
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]
