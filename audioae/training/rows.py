"""The records that `fit` yields."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mixing:
    """The validation set is about to be mixed and its noisy side scored.

    Args:
        pairs: number of mixtures.
        seconds: length of each.
    """

    pairs: int
    seconds: float


@dataclass(frozen=True)
class Noisy:
    """Mean scores of the noisy validation mixtures, the baseline of the training.

    It is the first line of history.jsonl.

    Args:
        step: 0.
        noisy_loss, noisy_si_sdr, noisy_pesq, noisy_stoi, noisy_ovrl, noisy_llr, noisy_lost_db,
            noisy_combined: see `Report`.
    """

    step: int
    noisy_loss: float | None
    noisy_si_sdr: float | None
    noisy_pesq: float | None
    noisy_stoi: float | None
    noisy_ovrl: float | None = None
    noisy_llr: float | None = None
    noisy_lost_db: float | None = None
    noisy_combined: float | None = None

    @property
    def loss(self) -> float | None:
        """The loss without a model."""
        return self.noisy_loss


@dataclass(frozen=True)
class Baseline:
    """The validation loss of a constant answer, the baseline of an autoencoder that reconstructs.

    It is the first line of history.jsonl.

    Args:
        step: 0.
        baseline_loss: the loss if each frame is the mean over the frames of its segment.
    """

    step: int
    baseline_loss: float | None

    @property
    def loss(self) -> float | None:
        """The loss without a model."""
        return self.baseline_loss


@dataclass(frozen=True)
class Start:
    """Size of the network and the data, and speed of the first steps.

    Args:
        parameters: number of parameters.
        macs_per_second: multiply-accumulate operations per second of audio.
        speech_hours, noise_hours: length of the training data.
        steps, first_step: last and first step of the run.
        audio_seconds_per_second: seconds of training audio per second.
        seconds_left: predicted duration.
    """

    parameters: int
    macs_per_second: int
    speech_hours: float
    noise_hours: float
    steps: int
    first_step: int
    audio_seconds_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Progress:
    """Progress after a few steps; `loss` is the mean over them.

    Speed and time left are computed by `Pace`.
    """

    step: int
    loss: float
    audio_seconds_per_second: float
    seconds_left: float


@dataclass(frozen=True, kw_only=True)
class AnyReport:
    """A validation of the moving average of the weights.

    Args:
        step: steps taken.
        audio_hours: hours of training audio up to this step.
        learning_rate: of the last step.
        loss: mean over the training steps since the last report.
        valid_loss: mean over the validation set; None if it cannot be computed.
        skipped_steps: steps that were skipped because of a loss that is not finite.
        seconds: duration of the training so far.
        is_best: no report had a better score.
        reports_since_best: reports since the best one; `TrainSettings.patience` limits them.
        averaged: number of checkpoints if their mean was scored; 0 for the moving average.
    """

    step: int
    audio_hours: float
    learning_rate: float
    loss: float
    valid_loss: float | None
    skipped_steps: int
    seconds: float
    is_best: bool
    reports_since_best: int = 0
    averaged: int = 0


@dataclass(frozen=True, kw_only=True)
class Report(AnyReport):
    """A validation of a denoiser.

    Args:
        valid_si_sdr, valid_pesq, valid_stoi: means over the validation mixtures; None if a metric
            cannot be computed.
        valid_ovrl: overall quality of DNSMOS P.835; None unless `ValidationSettings.dnsmos`.
        valid_llr: log-likelihood ratio of linear predictors, a distance of spectral envelopes.
        valid_lost_db: power of the speech that is lost, see `speech_lost_db`.
        valid_combined: the sum of all of these, see `validation.COMBINED`.
    """

    valid_si_sdr: float | None
    valid_pesq: float | None
    valid_stoi: float | None
    valid_ovrl: float | None = None
    valid_llr: float | None = None
    valid_lost_db: float | None = None
    valid_combined: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReconstructionReport(AnyReport):
    """A validation of an autoencoder that reconstructs; `valid_loss` includes the penalty.

    Args:
        valid_reconstruction: the weighted losses of the features, without the penalty.
        valid_explained_variance: 1 - squared error / variance of the features around the mean of
            each bin; None for constant features.
        valid_small_share: share of the latent values below 1 % of the largest one.
        valid_active_values: mean number of the latent values of a step above 1 % of its largest.
        valid_active_units: number of latent channels that carry information, see `active_units`.
        valid_kl: mean KL divergence of each latent channel in nats; None without a prior.
    """

    valid_reconstruction: float
    valid_explained_variance: float | None
    valid_small_share: float
    valid_active_values: float
    valid_active_units: int
    valid_kl: tuple[float, ...] | None


Row = Mixing | Noisy | Baseline | Start | Progress | AnyReport
