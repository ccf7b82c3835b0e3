#!/usr/bin/env bash
# The tour that `make demo` shows: spec -> bundle -> deployment -> a program that runs, each command as typed.
set -euo pipefail
cd "$(dirname "$0")/.."
channel=${1:?usage: scripts/demo.sh CHANNEL}
destination=build/envs/demo

bold='' dim='' plain=''
if [[ -z ${NO_COLOR:-} && ( -t 1 || -n ${FORCE_COLOR:-} ) ]]; then
    bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
fi

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
typed() { printf '%s$ %s%s\n' "$dim" "$*" "$plain"; }
run() {
    typed "$@"
    "$@"
}

rm -rf "$destination" # of an earlier demo

say "1. A spec becomes a bundle"
typed envpack build envspecs/demo.yml -c "$channel"
bundle=$(envpack build envspecs/demo.yml -c "$channel")
printf '%s\n' "$bundle"

say "2. What is in it"
run envpack inspect "$bundle"

say "3. The bundle becomes a running environment, in another place"
run envpack deploy "$bundle" "$destination"

say "4. Its programs run, from a shell that knows nothing of conda"
run "$destination/bin/cowsay" -t "Hello from $destination"

say "5. And with the environment activated"
typed "source $destination/bin/activate"
# shellcheck disable=SC1091
source "$destination/bin/activate"
typed "python -c '...'"
python - <<'EOF'
import os
import sys

import numpy
import rich

print("python     ", sys.version.split()[0], "at", sys.executable)
print("numpy      ", numpy.__version__, "says", numpy.linalg.norm([3.0, 4.0]))
print("greeting   ", os.environ["DEMO_GREETING"])
print("rich       ", rich.__file__)
EOF
typed deactivate
deactivate

say "Done. $bundle is ordinary gzipped tar: any host can take it from here."
