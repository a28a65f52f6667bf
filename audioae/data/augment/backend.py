"""Effects are written once, for NumPy arrays on the CPU and for torch tensors on a device.

They use functions that both libraries have under the same name. Torch on the CPU would do without
NumPy, but small operations and FFTs are slower there: mixing 3 s at 16 kHz in one thread took 1.5
times as long with torch as with NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from scipy import fft

from audioae.signal.spectrogram import Array

if TYPE_CHECKING:
    from torch import Tensor

Waves = TypeVar("Waves", Array, "Tensor")  # float32; NumPy or torch, and so is what comes back


def namespace(waveforms: Any) -> Any:
    """The library of `waveforms`, numpy or torch."""
    if isinstance(waveforms, np.ndarray):
        return np
    import torch

    return torch


def transforms(waveforms: Any) -> Any:
    """The FFTs for `waveforms`: scipy.fft or torch.fft."""
    return fft if isinstance(waveforms, np.ndarray) else namespace(waveforms).fft


def beside(waveforms: Any, values: Any) -> Any:
    """`values` in the library, with the type and on the device of `waveforms`."""
    if isinstance(waveforms, np.ndarray):
        return np.asarray(values, waveforms.dtype)
    values = np.asarray(values)
    return namespace(waveforms).as_tensor(values, dtype=waveforms.dtype, device=waveforms.device)


def to_numpy(waveforms: Any) -> Array:
    """`waveforms` as a NumPy array; a tensor is copied from its device."""
    array: Array = waveforms if isinstance(waveforms, np.ndarray) else waveforms.cpu().numpy()
    return array
