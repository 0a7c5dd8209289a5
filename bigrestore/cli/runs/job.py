"""The job of Slurm that does what a dry run estimated: its memory, time and processors are those of the plan.

The job is warned before its time is up, ends with 75, and puts itself back into the queue, where it resumes.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigrestore.run.view.dry_run import RunEstimate

MEMORY_RESERVE_SHARE = 1.25
"""Memory asked for, for each byte of the estimate."""

TIME_RESERVE_SHARE, TIME_RESERVE_SECONDS = 1.5, 900
"""Time asked for, for each second of the estimate, and beside it: start, profile, pyramid."""

LEFT_OUT = ("--dry-run", "--sbatch", "--overwrite", "--resume", "-q", "--quiet")
"""Flags that the command of the job has none of, or adds itself."""

_SCRIPT = """\
#!/usr/bin/env bash
#SBATCH --job-name bigrestore
#SBATCH --chdir {folder}
#SBATCH --cpus-per-task {cpus}
#SBATCH --mem {memory_gib}G
#SBATCH --time {time}
{gpu}#SBATCH --output bigrestore-%j.log
#SBATCH --open-mode append
#SBATCH --requeue
#SBATCH --signal B:USR1@120
# Estimated: {estimated}.
# Two minutes before its time is up the job is warned, ends with 75, and is queued again; then it resumes.
set -uo pipefail
how={how}
if [ "${{SLURM_RESTART_COUNT:-0}}" -gt 0 ]; then how=--resume; fi
{command} "$how" &
worker=$!
trap 'kill -USR1 "$worker" 2>/dev/null' USR1
trap 'kill -TERM "$worker" 2>/dev/null' TERM
wait "$worker"
code=$?
while kill -0 "$worker" 2>/dev/null; do # a signal ends the wait, not the worker
  wait "$worker"
  code=$?
done
if [ "$code" -gt 128 ]; then # interrupted as the worker ended: ask for its own code
  wait "$worker"
  code=$?
fi
if [ "$code" -eq 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
"""


def sbatch_script(estimates: Sequence[RunEstimate], command: Mapping[str, Any]) -> str:
    """Return the script of one job.

    Parameters
    ----------
    estimates : sequence of RunEstimate
        Of each input, restored one after the other.
    command : mapping
        Words and folder of the command as it was typed, see `typed_command`.
    """
    seconds = sum(each.seconds for each in estimates)
    memory = max(each.memory_bytes for each in estimates)
    gpu = any(each.method.get("device") == "cuda" for each in estimates)
    words = [word for word in command["words"] if word not in LEFT_OUT]
    asked = TIME_RESERVE_SHARE * seconds + TIME_RESERVE_SECONDS
    minutes = math.ceil(asked / 60)
    return _SCRIPT.format(
        folder=shlex.quote(command["folder"]),
        cpus=max(each.threads * each.workers for each in estimates),
        memory_gib=max(2, math.ceil(MEMORY_RESERVE_SHARE * memory / 2**30)),
        time=f"{minutes // 60:02d}:{minutes % 60:02d}:00",
        gpu="#SBATCH --gres gpu:1\n" if gpu else "",
        estimated=f"{memory / 2**30:.1f} GiB, {math.ceil(seconds / 60)} min on this machine, without reserve",
        how="--overwrite" if "--overwrite" in command["words"] else "--resume",
        command=shlex.join(words),
    )
