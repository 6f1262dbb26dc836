#!/bin/sh
# Expected: `sysconfig.get_config_var("EXE")` is the same text for every thread that asks.
# Happens: of several threads that are the first to ask in a process, some are told None: Python sets its table before it
#   has filled it, and whoever comes meanwhile reads what is there. So uv's `find_uv_bin` raises a TypeError in them, in
#   more than half of all new processes with 4 threads.
# Seen: Python 3.11.7, uv 0.13.9, Linux, 2026-12-01. Not in Python 3.12.1 and 3.13.0, which fill it under a lock.
# Therefore: `starburst_common/image/wheels.py` asks once as it is imported, before any thread of ours does.
set -eu
release=${1:-0.13.9}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >ask.py <<'PYTHON'
import threading

from uv import find_uv_bin

together, said = threading.Barrier(4), set()


def ask():
    together.wait()
    try:
        find_uv_bin()
    except TypeError as error:
        said.add(str(error))


threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*said)
PYTHON
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    said=$(uv run --quiet --no-project --python 3.11 --with "uv==$release" python ask.py)
    if [ -n "$said" ]; then
        echo "seen: in process $attempt find_uv_bin of uv $release raised TypeError: $said"
        exit 0
    fi
done
echo "changed: in 20 processes with 4 threads find_uv_bin of uv $release raised nothing"
exit 1
