"""Count the multiply-accumulate operations of a network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def count_macs_of(model: nn.Module, run: Callable[[], object]) -> int:
    """Multiply-accumulate operations of a run in evaluation mode.

    Counted are convolutions, linear layers and recurrences.

    Args:
        model: the network, left in the mode that it has.
        run: runs it.
    """
    macs = 0

    def add(
        module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]
    ) -> None:
        nonlocal macs
        if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d)):
            macs += inputs[0].numel() * module.weight[0].numel()
        elif isinstance(module, (nn.Conv1d, nn.Conv2d)) and isinstance(output, Tensor):
            macs += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            macs += inputs[0].numel() * module.out_features
        elif isinstance(module, nn.RNNBase):
            macs += inputs[0].shape[:-1].numel() * sum(
                weight.numel() for name, weight in module.named_parameters() if "weight" in name
            )

    hooks = [module.register_forward_hook(add) for module in model.modules()]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()
            run()
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return macs
