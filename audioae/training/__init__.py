"""Training: `fit` trains a denoiser on prepared data and writes a run folder.

Modules in reading order:

- `recipe`: TOML files with all settings of a training
- `settings`: `TrainSettings` and the learning rate schedule
- `loop`: the pairs of each step, and `fit`, the training loop
- `trainer`: network, optimizer and moving average, and one training step
- `losses`: the losses
- `validation`: the fixed mixtures on which a model is scored
- `reports`: validation, checkpoints and history
- `state`: the files of a run folder, to resume it
- `rows`: the records that `fit` yields
- `team`: several processes
- `tracking`: TensorBoard
- `export`: ONNX files
"""

from audioae.training.loop import Batches, Pace, check_metrics, fit
from audioae.training.reports import mean_weights
from audioae.training.rows import Mixing, Noisy, Progress, Report, Row, Start
from audioae.training.settings import Precision, TrainSettings, learning_rate_at
from audioae.training.state import HISTORY, RESUME, begin_history, load, save
from audioae.training.team import Team, process_group
from audioae.training.trainer import DEVICES, Trainer, find_device, keep_freed_memory

__all__ = [
    "DEVICES",
    "HISTORY",
    "RESUME",
    "Batches",
    "Mixing",
    "Noisy",
    "Pace",
    "Precision",
    "Progress",
    "Report",
    "Row",
    "Start",
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
