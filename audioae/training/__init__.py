"""Training: `fit` trains a denoiser or an autoencoder on prepared data and writes a run folder.

Modules in reading order:

- `recipe`: TOML files with all settings of a training
- `settings`: `TrainSettings` and the learning rate schedule
- `loop`: the pairs of each step, and `fit`, the training loop
- `trainer`: network, optimizer and moving average, and one training step
- `losses`: the losses
- `validation`: the fixed mixtures on which a denoiser is scored
- `sounds`, `reconstruction`: the sounds that an autoencoder reconstructs, and its validation
- `closed_form`: initial weights of an autoencoder that are computed from its training sounds
- `reports`: validation, checkpoints and history
- `state`: the files of a run folder, to resume it
- `rows`: the records that `fit` yields
- `team`: several processes
- `tracking`: TensorBoard
- `export`, `export_codec`: ONNX files of denoisers and of autoencoders
- `quantize`: ONNX files of denoisers with 8-bit layers
- `ship`: export of either, and models in the package
"""

from audioae.training.loop import Batches, Pace, check_metrics, fit
from audioae.training.reports import mean_weights
from audioae.training.rows import (
    AnyReport,
    Baseline,
    Mixing,
    Noisy,
    Progress,
    ReconstructionReport,
    Report,
    Row,
    Start,
)
from audioae.training.settings import Precision, TrainSettings, learning_rate_at
from audioae.training.sounds import SoundCorpus, TaskSettings
from audioae.training.state import HISTORY, RESUME, begin_history, load, save
from audioae.training.team import Team, process_group
from audioae.training.trainer import DEVICES, Trainer, find_device, keep_freed_memory

__all__ = [
    "DEVICES",
    "HISTORY",
    "RESUME",
    "AnyReport",
    "Baseline",
    "Batches",
    "Mixing",
    "Noisy",
    "Pace",
    "Precision",
    "Progress",
    "ReconstructionReport",
    "Report",
    "Row",
    "SoundCorpus",
    "Start",
    "TaskSettings",
    "Team",
    "TrainSettings",
    "Trainer",
    "begin_history",
    "check_metrics",
    "find_device",
    "fit",
    "keep_freed_memory",
    "learning_rate_at",
    "load",
    "mean_weights",
    "process_group",
    "save",
]
