"""Metrics of an estimated waveform, most of them in comparison with a reference.

waveform    SI-SDR, SNR, log-spectral distance
hu_loizou   segmental SNR, LLR, WSS and the composite measures CSIG, CBAK, COVL
perceptual  PESQ, STOI, ESTOI, DNSMOS, from the packages of the `metrics` extra
score       any set of metrics by name, each with a value or the reason why there is none
"""

from audioae.evaluation.metrics.hu_loizou import (
    Composite,
    composite,
    log_likelihood_ratio,
    segmental_snr,
    weighted_spectral_slope,
)
from audioae.evaluation.metrics.perceptual import Dnsmos, dnsmos, estoi, pesq_nb, pesq_wb, stoi
from audioae.evaluation.metrics.score import (
    DEFAULT_METRICS,
    METRICS,
    Score,
    check_metrics,
    require_packages,
    score,
)
from audioae.evaluation.metrics.waveform import log_spectral_distance, si_sdr, snr

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "Composite",
    "Dnsmos",
    "Score",
    "check_metrics",
    "composite",
    "dnsmos",
    "estoi",
    "log_likelihood_ratio",
    "log_spectral_distance",
    "pesq_nb",
    "pesq_wb",
    "require_packages",
    "score",
    "segmental_snr",
    "si_sdr",
    "snr",
    "stoi",
    "weighted_spectral_slope",
]
