#!/usr/bin/env bash
# Restore whatever lies in a folder and is not restored yet; made to be started by cron again and again.
#
#   examples/cron/restore-folder.sh IN OUT [flags of bigrestore run]
#
# One instance at a time: a second ends at once. A run that was stopped, by a reboot or by the time limit below, goes on
# where it was. Every line of OUT/restore.log is a JSON object. A section that fails is left for the next time, and the others
# go on; the exit code is that of the last one that failed.
set -uo pipefail

if [ "$#" -lt 2 ]; then
  echo "usage: $0 IN OUT [flags of bigrestore run]" >&2
  exit 2
fi
in=$1
out=$2
shift 2
hours=${HOURS:-8} # TERM is sent then, and the block in hand abandoned
mkdir -p "$out"

exec 9>"$out/.lock"
if ! flock --nonblock 9; then
  exit 0
fi

worst=0
shopt -s nullglob
for section in "$in"/*.tif "$in"/*.tiff "$in"/*.png "$in"/*.zarr; do
  name=$(basename "$section")
  code=0
  timeout --signal TERM "${hours}h" bigrestore --log-format json run "$section" "$out/${name%%.*}.ome.zarr" \
    --resume --quiet "$@" 9>&- 2>>"$out/restore.log" || code=$?
  case $code in
    0) ;;
    75 | 124) exit 75 ;; # stopped: the rest is for the next time
    *) worst=$code ;;
  esac
done
exit "$worst"
