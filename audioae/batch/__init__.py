"""One function over many files: what to clean and where to, all of it checked first, then done
here, in processes or on a cluster.

tree       files, folders and patterns to inputs
names      inputs to outputs: the tree mirrored, never one name for two
ledger     what is done, so that a killed run goes on where it was
plan       everything checked before the first sample is computed
facts      hashes and levels of files, for programs
work       one file's work, the same function everywhere
processes  worker processes; one that crashes costs one file
cluster    Ray
run        a plan to its outcomes
"""

from audioae.batch.ledger import Ledger
from audioae.batch.plan import BatchPlan, Job, OutputForm, name_jobs, output_folders, plan_batch
from audioae.batch.run import run_tasks
from audioae.batch.tree import (
    DEFAULT_TEMPLATE,
    Finds,
    Found,
    check_suffix,
    check_template,
    find_inputs,
)
from audioae.batch.work import Cleaner, Listener, Outcome, Task, Work, describe, file_facts

__all__ = [
    "DEFAULT_TEMPLATE",
    "BatchPlan",
    "Cleaner",
    "Finds",
    "Found",
    "Job",
    "Ledger",
    "Listener",
    "Outcome",
    "OutputForm",
    "Task",
    "Work",
    "check_suffix",
    "check_template",
    "describe",
    "file_facts",
    "find_inputs",
    "name_jobs",
    "output_folders",
    "plan_batch",
    "run_tasks",
]
