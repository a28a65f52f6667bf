"""Denoise many files: find them, check everything first, then run, here, in processes or on Ray.

In reading order:

tree        input files from paths, folders and patterns; the names of the outputs
plan        jobs, output folders, and all checks before the first sample is computed
ledger      which outputs are complete, so that a batch can be resumed
work        one file of a batch, the same in any process; events and outcomes
run         a plan to its outcomes, in this process or in worker processes
ray         the same on a Ray cluster
pipes       recordings and raw samples through stdin and stdout
"""

from audioae.denoising.batch.ledger import Ledger
from audioae.denoising.batch.plan import (
    BatchJobs,
    BatchPlan,
    OutputNames,
    name_jobs,
    output_folders,
    plan_batch,
)
from audioae.denoising.batch.run import run_batch
from audioae.denoising.batch.tree import (
    DEFAULT_TEMPLATE,
    FoundInputs,
    InputFile,
    check_suffix,
    check_template,
    find_inputs,
)
from audioae.denoising.batch.work import (
    BatchListener,
    BatchSettings,
    JobRunner,
    Outcome,
    PlannedFile,
)
from audioae.denoising.provenance import describe, file_facts

__all__ = [
    "DEFAULT_TEMPLATE",
    "BatchJobs",
    "BatchListener",
    "BatchPlan",
    "BatchSettings",
    "FoundInputs",
    "InputFile",
    "JobRunner",
    "Ledger",
    "Outcome",
    "OutputNames",
    "PlannedFile",
    "check_suffix",
    "check_template",
    "describe",
    "file_facts",
    "find_inputs",
    "name_jobs",
    "output_folders",
    "plan_batch",
    "run_batch",
]
