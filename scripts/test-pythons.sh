#!/usr/bin/env bash
# Run `make test` on HEAD with each Python 3.10 or later: those named, or all that are found. Prints a table last.
#
#   scripts/test-pythons.sh [PYTHON ...]
#
# USER_NAME: run as this user instead of the one who calls (needs root).
set -euo pipefail
cd "$(dirname "$0")/.."

version_of() { # prints 3.11.7 for a Python that runs, has venv and is new enough
    "$1" -I -c 'import ensurepip, sys, venv
assert sys.version_info >= (3, 10) and sys.prefix == sys.base_prefix
print(".".join(map(str, sys.version_info[:3])))' 2>/dev/null
}

if [[ $# -eq 0 ]]; then
    shopt -s nullglob
    folders=(/usr/bin /usr/local/bin "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin)
    IFS=: read -ra path <<<"$PATH"
    for folder in "${folders[@]}" "${path[@]}"; do
        for python in "$folder"/python3.{10,11,12,13,14}; do
            set -- "$@" "$python"
        done
    done
fi

declare -A found=()
for python; do
    version=$(version_of "$python") || continue
    [[ -n ${found[$version]:-} ]] || found[$version]=$python
done
[[ ${#found[@]} -gt 0 ]] || { echo "error: no Python 3.10 or later with venv was found; give its path as an argument" >&2; exit 2; }

failed=0
results=()
for version in $(printf '%s\n' "${!found[@]}" | sort -V); do
    place=$(mktemp -d "${TMPDIR:-/tmp}/envpack-$version-XXXXXX")
    chmod 755 "$place"
    git clone -q . "$place/envpack"
    as=()
    if [[ -n ${USER_NAME:-} ]]; then
        chown -R "$USER_NAME:" "$place"
        home=$(getent passwd "$USER_NAME" | cut -d: -f6)
        as=(setpriv --reuid "$USER_NAME" --regid "$USER_NAME" --init-groups env "HOME=$home")
    fi
    echo "== Python $version (${found[$version]})" >&2
    status=passed
    (cd "$place/envpack" && "${as[@]}" make "PYTHON=${found[$version]}" test </dev/null) 2>&1 \
        | tee "$place/log" || status=FAILED
    [[ $status == passed ]] || failed=1
    summary=$(grep -E '^=+ .*(passed|failed|error).* in ' "$place/log" | tail -1 | sed -E 's/^=+ //; s/ =+$//' || true)
    results+=("$version|$status|${summary:-see $place/log}")
    [[ $status == FAILED ]] || rm -rf "$place"
done
printf '\n'
for result in "${results[@]}"; do
    IFS='|' read -r version status summary <<<"$result"
    printf 'Python %-8s %-7s %s\n' "$version" "$status" "$summary"
done
exit "$failed"
