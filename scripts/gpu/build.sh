#!/usr/bin/env bash
# Build a bundle on a GPU, and keep every line that was said, with its time.
#
#   [PYTHON=python3] scripts/gpu/build.sh MODELSET BUNDLE [LEVEL] [LOGS] [BUILD-ENGINES OPTION ...]
#
# LEVEL is TensorRT's optimisation level (2), LOGS a folder (BUNDLE.logs). Interrupted, run it again: it goes on.
# PYTHON may be a shell function that is exported (export -f).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
modelset=$1 bundle=$2 level=${3:-2} logs=${4:-$2.logs}
shift $(($# < 4 ? $# : 4))
python=${PYTHON:-python3}
export PYTHONPATH=$root/engines:$root/runtime${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$logs"

{ nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total,memory.used,clocks.sm --format=csv \
    || echo "no nvidia-smi here"; } 2>&1 | tee "$logs/gpu.csv"
$python - <<'PY' | tee "$logs/versions.txt"
import platform, importlib.metadata as metadata
print("python", platform.python_version())
for name in ("tensorrt", "cuda-core", "cuda-bindings", "numpy", "onnx", "av"):
    try:
        print(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        print(name, "none")
PY

stamped() {  # every line of a stream, with the seconds since the script began
    while IFS= read -r line; do printf '%5d s  %s\n' "$SECONDS" "$line"; done
}
set +e
$python -c 'from musetalk_engines.cli import main; raise SystemExit(main())' "$modelset" -o "$bundle" \
    --optimization-level "$level" --verbose "$@" 2>&1 >"$logs/report.txt" \
    | stamped | tee "$logs/build.log" | grep --line-buffered -v 'TensorRT: ' >&2
status=${PIPESTATUS[0]}
set -e
cat "$logs/report.txt"
echo "exit status $status after $SECONDS s, log in $logs/build.log"
if [ "$status" = 0 ]; then
    cp "$bundle/manifest.json" "$logs/"
    ls -l "$bundle"
else
    ls -lA "$(dirname "$bundle")"
fi
exit "$status"
