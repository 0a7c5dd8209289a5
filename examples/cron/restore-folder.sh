#!/usr/bin/env bash
# Restore whatever lies in a folder and is not restored yet; made to be started by cron again and again.
#
#   examples/cron/restore-folder.sh IN OUT [flags of bigrestore run]
#
# One instance at a time: a second ends at once. A section is taken up when nothing of it has changed for SETTLE minutes
# (5), so that none is read that is still being copied. A run that was stopped, by a reboot or after HOURS hours (8), goes on
# where it was. Every line of OUT/restore.log is a JSON object. A section that fails is left for the next time, and the others
# go on; the exit code is that of the last one that failed.
#
# cron looks for commands in few places: name the one to use by BIGRESTORE=/path/to/bigrestore, or set PATH in the crontab.
set -uo pipefail

if [ "$#" -lt 2 ]; then
  echo "usage: $0 IN OUT [flags of bigrestore run]" >&2
  exit 2
fi
in=$1
out=$2
shift 2
hours=${HOURS:-8}
settle=${SETTLE:-5}
bigrestore=${BIGRESTORE:-bigrestore}
if ! command -v "$bigrestore" >/dev/null; then
  echo "$0: $bigrestore is not found; set BIGRESTORE to the path of the command" >&2
  exit 127
fi
mkdir -p "$out" || exit

exec 9>"$out/.lock"
if ! flock --nonblock 9; then
  exit 0
fi

worst=0
shopt -s nullglob
for section in "$in"/*.tif "$in"/*.tiff "$in"/*.png "$in"/*.zarr; do
  if [ "$settle" -gt 0 ] && [ -n "$(find "$section" -cmin "-$settle" -print -quit)" ]; then
    continue
  fi
  name=$(basename "$section")
  name=${name%.*}
  # What is left of sub.001.ome.tif is sub.001; two inputs that come to one name are told apart by the run itself.
  output=$out/${name%.ome}.ome.zarr
  code=0
  timeout --signal TERM "${hours}h" "$bigrestore" --log-format json run "$section" "$output" \
    --resume --quiet "$@" 9>&- 2>>"$out/restore.log" || code=$?
  case $code in
    0) ;;
    75 | 124) exit 75 ;; # stopped: the rest is for the next time
    *) worst=$code ;;
  esac
done
exit "$worst"
