#!/usr/bin/env bash
# Run bigrestore in its container, with the folders of input and output and the GPU where there is one.
#
#   examples/apptainer/run.sh INPUT OUTPUT [flags of bigrestore run]
#
# INPUT and OUTPUT are paths or URLs. Folders of other files that flags name (--mask, --model, --config) are made visible
# by APPTAINER_BIND=/folder,/another.
set -euo pipefail

if [ "$#" -lt 2 ]; then
  echo "usage: $0 INPUT OUTPUT [flags of bigrestore run]" >&2
  exit 2
fi
input=$1
output=$2
shift 2
image=${BIGRESTORE_SIF:-bigrestore.sif}
gpu=()
if command -v nvidia-smi >/dev/null; then
  gpu=(--nv)
fi
# The output's folder comes last and lies on top, where one of the two is inside the other.
binds=()
if [[ $input != *://* ]]; then
  input=$(realpath "$input")
  from=$(dirname "$input")
  binds+=(--bind "$from:$from:ro")
fi
if [[ $output != *://* ]]; then
  output=$(realpath --canonicalize-missing "$output")
  to=$(dirname "$output")
  mkdir -p "$to"
  binds+=(--bind "$to")
fi
exec apptainer run ${gpu[@]+"${gpu[@]}"} ${binds[@]+"${binds[@]}"} "$image" run "$input" "$output" --resume "$@"
