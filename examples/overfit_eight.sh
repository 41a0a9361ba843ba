#!/bin/sh
# Overfits eight COCO images and fails unless the final box AP50 is above 0.9. Takes minutes; not part of the tests.
#
#   COCO_ROOT=DIR examples/overfit_eight.sh [FOLDER OF THE RUN]
#
# PIPE sets the program if it is not target/release/pipe.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
pipe=${PIPE:-$here/../target/release/pipe}
out=${1:-runs/overfit_eight}
: "${COCO_ROOT:?the folder with train2017 and annotations}"

"$pipe" run "$here/overfit_eight.toml" --quiet --out "$out"
ap50=$(sed -n 's|.*"tag":"validation-bbox/average precision 0_5","value":\([0-9.eE+-]*\).*|\1|p' "$out/records.jsonl" | tail -n 1)
echo "box AP50 $ap50"
awk -v value="$ap50" 'BEGIN { exit !(value > 0.9) }' || { echo "below 0.9" >&2; exit 1; }
