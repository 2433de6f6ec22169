#!/usr/bin/env bash
# Measure a bundle on this machine: a service under load, one session, encoders alone, many sessions at once; then run the
# GPU's tests with it.
#
#   [PYTHON=python3] [SERVED=40] [SESSIONS=4,16,32,64] scripts/gpu/measure.sh BUNDLE AVATAR [FIGURES]
#
# SERVED sessions at 25 fps load the service for a minute; SESSIONS go as fast as they can, each number a step of its own.
# The folder FIGURES (BUNDLE.figures) has a step's figures and its log as soon as it ends. A step that fails, or takes
# over STEP_TIMEOUT_S (300), is told, and the others run. PYTHON may be a shell function that is exported (export -f).
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
bundle=$(realpath "$1") avatar=$(realpath "$2") figures=$(realpath -m "${3:-$1.figures}")
export PYTHONPATH=$root/runtime:$root/engines:$root/tests${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$figures"
cd "$root" || exit
status=0

step() {  # FILE ARGUMENT ...: of Python, whose output goes to FILE
    local file=$1 began=$SECONDS code
    shift
    timeout "${STEP_TIMEOUT_S:-300}" bash -c "${PYTHON:-python3} \"\$@\"" _ "$@" >"$figures/$file" 2>"$figures/$file.log"
    code=$?
    echo "$file: exit status $code after $((SECONDS - began)) s"
    [ "$code" = 0 ] || { status=1; tail -n 3 "$figures/$file.log" >&2; }
}

bench=(-c 'from musetalk_runtime.cli.main import main; raise SystemExit(main())' bench -b "$bundle" -a "$avatar")
step service.json scripts/bench/service.py "$bundle" "$avatar" --sessions "${SERVED:-40}" --fps 25 --viewers 2 --seconds 60
for turn in 1 2 3; do step "bench-$turn.json" "${bench[@]}"; done
step encoders.json scripts/bench/encoders.py --frames 300 --repeat 1
for count in $(tr , ' ' <<<"${SESSIONS:-4,16,32,64}"); do
    step "sessions-$count.json" scripts/bench/sessions.py "$bundle" --avatar "$avatar" --sessions "$count" \
        --kinds processes,frames --ways batched
done
MUSETALK_EDGE_GPU_BUNDLE=$bundle step tests.txt -m pytest -m gpu -p no:cacheprovider tests/gpu
exit "$status"
