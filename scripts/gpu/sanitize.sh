#!/usr/bin/env bash
# Run the tests of the composition kernels under each tool of compute-sanitizer (CUDA toolkit), on a GPU.
#
#   [PYTHON=python3] scripts/gpu/sanitize.sh
#
# One line a tool. Stops at the first that finds an error, showing what it said, with its exit status.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH=engines:runtime:tests${PYTHONPATH:+:$PYTHONPATH}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

for tool in memcheck racecheck initcheck synccheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 9 ${PYTHON:-python3} -m pytest -q -rs -p no:cacheprovider \
        tests/gpu/test_chain.py -k 'within_a_level or gather' >"$log" 2>&1 || { status=$?; cat "$log"; exit "$status"; }
    grep -q ' passed' "$log" || { cat "$log"; exit 1; } # skipped: no GPU, or nothing to compile with
    echo "$tool: $(grep -E ' passed' "$log" | head -n 1); $(grep 'ERROR SUMMARY\|RACECHECK SUMMARY' "$log")"
done
