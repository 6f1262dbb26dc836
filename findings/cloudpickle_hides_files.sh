#!/bin/sh
# Expected: a function that cloudpickle sends by value shows, in a traceback, the file and the line that it was written in,
#   as it did up to 3.1.2.
# Happens: cloudpickle 3.1.3 writes "<dynamic-code>" for every file's name, so a traceback shows no line of source, and a
#   debugger finds none. Its changelog gives pickles that do not depend on where a notebook's cell was kept as the reason.
# Seen: cloudpickle 3.1.3, Python 3.11 to 3.13, Linux, 2026-11-29.
# Therefore: `starburst_common/pickling/byvalue.py`, which puts the file's name back.
set -eu
release=${1:-3.1.3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >mine.py <<'PYTHON'
import pickle
import cloudpickle

def double(x):
    return 2 * x

print(pickle.loads(cloudpickle.dumps(double)).__code__.co_filename)
PYTHON
file=$(uv run --quiet --no-project --with "cloudpickle==$release" python mine.py)
if [ "$file" = "<dynamic-code>" ]; then
    echo "seen: cloudpickle $release names the file $file"
else
    echo "changed: cloudpickle $release names the file $file"
    exit 1
fi
