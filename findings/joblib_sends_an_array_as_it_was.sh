#!/bin/sh
# Expected: a function that is called with an array gets what is in the array at the time of the call.
# Happens: in one `with joblib.Parallel(...)` block, an array of more than a megabyte that was changed in place between two
#   calls comes as it was at the first one: it was written to a file then, and is known again by its place in memory. Calls
#   outside of such a block get it as it is.
# Seen: joblib 1.6.0 with numpy 2.4.6, Python 3.11, Linux, 2026-12-01.
# Therefore: `starburst_common/code/shared.py` hashes what a function closes over at each call, though that takes longer
#   than to look where it lies; `benchmarks/closure.py` says so beside joblib's figures.
set -eu
joblib=${1:-1.6.0}
numpy=${2:-2.4.6}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >calls.py <<'PYTHON'
import joblib
import numpy

def first(array):
    return int(array[0])

if __name__ == "__main__":
    array = numpy.zeros(1_000_000)
    with joblib.Parallel(n_jobs=2) as parallel:
        parallel([joblib.delayed(first)(array)])
        array[0] = 7
        within = parallel([joblib.delayed(first)(array)])
    outside = joblib.Parallel(n_jobs=2)([joblib.delayed(first)(array)])
    print(*within, *outside)
PYTHON
got=$(uv run --quiet --no-project --with "joblib==$joblib" --with "numpy==$numpy" python calls.py)
if [ "$got" = "0 7" ]; then
    echo "seen: joblib $joblib sends 0 where the array has 7 within a block, and 7 outside of it"
else
    echo "changed: joblib $joblib gives $got"
    exit 1
fi
