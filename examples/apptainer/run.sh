#!/usr/bin/env bash
# Run bigrestore in its container, with the folders of input and output and the GPU where there is one.
#
#   examples/apptainer/run.sh INPUT OUTPUT [flags of bigrestore run]
set -euo pipefail

if [ "$#" -lt 2 ]; then
  echo "usage: $0 INPUT OUTPUT [flags of bigrestore run]" >&2
  exit 2
fi
input=$(realpath "$1")
output=$(realpath --canonicalize-missing "$2")
shift 2
image=${BIGRESTORE_SIF:-bigrestore.sif}
gpu=()
if command -v nvidia-smi >/dev/null; then
  gpu=(--nv)
fi
from=$(dirname "$input")
to=$(dirname "$output")
mkdir -p "$to"
binds=(--bind "$to")
if [ "$from" != "$to" ]; then
  binds+=(--bind "$from:$from:ro")
fi
exec apptainer run ${gpu[@]+"${gpu[@]}"} "${binds[@]}" "$image" run "$input" "$output" --resume "$@"
