#!/usr/bin/env bash
# Run the small scripts of a folder, each of which reproduces one report, and print a table: `make cases CASES=FOLDER`.
#
#   scripts/cases.sh FOLDER [NAME ...]
#
# A script is named NUMBER-*.sh, directly in FOLDER or one level below. It gets ENVPACK, the command to try, and CHANNEL,
# a folder with a conda channel; it exits with 0 where the result is right and with 1 where it is wrong. NAME: run only
# the scripts with this text in their path. LIMIT: seconds for each script (300).
set -euo pipefail
folder=$(realpath "${1:?usage: scripts/cases.sh FOLDER [NAME ...]}")
shift
: "${ENVPACK:?set it to the command to test}" "${CHANNEL:?set it to a directory with a conda channel}"
export ENVPACK CHANNEL
log=$(mktemp)
trap 'rm -f "$log"' EXIT

right=0 wrong=0 broken=0
shopt -s nullglob
for script in "$folder"/[0-9]*.sh "$folder"/*/[0-9]*.sh; do
    name=${script#"$folder"/}
    if [[ $# -gt 0 ]]; then
        chosen=
        for part; do [[ $name != *"$part"* ]] || chosen=1; done
        [[ -n $chosen ]] || continue
    fi
    status=0
    timeout --kill-after=5 "${LIMIT:-300}" bash "$script" >"$log" 2>&1 </dev/null || status=$?
    case $status in
    0) verdict=right right=$((right + 1)) ;;
    1) verdict=WRONG wrong=$((wrong + 1)) ;;
    124 | 137) verdict=HANGS wrong=$((wrong + 1)) ;;
    *) verdict="EXIT $status" broken=$((broken + 1)) ;;
    esac
    last=$(tail -1 "$log" | tr -d '\000' | cut -c 1-160)
    printf '%-48s %-8s %s\n' "${name%.sh}" "$verdict" "$last"
done
[[ $((right + wrong + broken)) -gt 0 ]] || { echo "error: no script named NUMBER-*.sh in $folder" >&2; exit 2; }
printf '\n%d right, %d wrong, %d ended with another exit status\n' "$right" "$wrong" "$broken"
[[ $((wrong + broken)) == 0 ]]
