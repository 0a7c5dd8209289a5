#!/usr/bin/env bash
# Restore one section or volume by a job array: one job makes the empty output, N jobs restore a part each, one job
# makes it whole.
#
#   examples/slurm/submit.sh PARTS INPUT OUTPUT [flags of bigrestore run]
#   examples/slurm/submit.sh 16 section.ome.zarr restored.ome.zarr --scale 2
#
# All jobs must be given the same flags; this script sees to it. What a cluster wants besides stands in environment
# variables: SBATCH_FLAGS="--account lab" for all jobs, BLOCKS_FLAGS="--partition gpu --gres gpu:1" for those that
# restore. The jobs run in the environment that this script is called from, so activate that of bigrestore first.
set -euo pipefail

if [ "$#" -lt 3 ]; then
  echo "usage: $0 PARTS INPUT OUTPUT [flags of bigrestore run]" >&2
  exit 2
fi
parts=$1
shift
if ! [[ $parts =~ ^[1-9][0-9]*$ ]]; then
  echo "$0: PARTS is a whole number of jobs, not $parts" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
read -r -a flags <<<"${SBATCH_FLAGS:-}"
read -r -a blocks_flags <<<"${BLOCKS_FLAGS:-}"

first=$(sbatch --parsable ${flags[@]+"${flags[@]}"} "$here/init.sbatch" "$@")
array=$(sbatch --parsable ${flags[@]+"${flags[@]}"} ${blocks_flags[@]+"${blocks_flags[@]}"} --array "1-$parts" \
  --dependency "afterok:${first%%;*}" --kill-on-invalid-dep yes "$here/blocks.sbatch" "$parts" "$@")
# After any end of the parts: where blocks failed, this job says which and ends with 5.
last=$(sbatch --parsable ${flags[@]+"${flags[@]}"} \
  --dependency "afterany:${array%%;*}" "$here/finalize.sbatch" "$@")
echo "init ${first%%;*}, blocks ${array%%;*}, finalize ${last%%;*}"
