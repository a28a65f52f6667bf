"""Training: `fit` turns a denoiser, prepared data and settings into a run folder, in one process or
in several.
"""

from audioae.training.batches import Batches
from audioae.training.loop import Pace, check_metrics, fit
from audioae.training.reports import mean_weights
from audioae.training.rows import Mixing, Noisy, Progress, Report, Row, Start
from audioae.training.settings import Precision, TrainSettings, learning_rate_at
from audioae.training.state import HISTORY, RESUME, begin_history, load, save
from audioae.training.team import Team, process_group
from audioae.training.trainer import DEVICES, Trainer, find_device, keep_freed_memory

__all__ = [
    "DEVICES", "HISTORY", "RESUME", "Batches", "Mixing", "Noisy", "Pace", "Precision", "Progress", "Report", "Row", "Start", "Team",
    "TrainSettings", "Trainer", "begin_history", "check_metrics", "find_device", "fit", "keep_freed_memory", "learning_rate_at", "load",
    "mean_weights", "process_group", "save",
]  # fmt: skip
