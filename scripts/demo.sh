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
typed() { printf '%s$ %s%s\n' "$dim" "$1" "$plain"; }
run() {
    typed "$1"
    eval "$1"
}

rm -rf "$destination" # of an earlier demo

say "1. Build a bundle from a spec"
typed "envpack build envspecs/demo.yml -c $channel"
bundle=$(envpack build envspecs/demo.yml -c "$channel") # the path is all it prints on stdout
printf '%s\n' "$bundle"

say "2. Show the content of the bundle"
run "envpack inspect $bundle"

say "3. Deploy the bundle to another path"
case "$(id -u):$PWD/" in
0:"$(cd ~ && pwd)"/*) allow=" --allow root-home" ;; # else root may not deploy below its own home
*) allow="" ;;
esac
run "envpack deploy $bundle $destination$allow"

say "4. Run a program of the environment, without conda and without activation"
run "$destination/bin/cowsay -t 'Hello from $destination'"

say "5. Activate the environment"
typed "source $destination/bin/activate"
# shellcheck disable=SC1091 # it is made above
source "$destination/bin/activate"
run "python -c 'import numpy; print(numpy.__version__, numpy.__file__)'"
run 'echo "$DEMO_GREETING"'
run deactivate

say "Done. $bundle is a gzipped tar file, which any host can unpack."
