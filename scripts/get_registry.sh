#!/bin/sh
# Unpack a registry, and programs that read from one, into a folder, for the tests: Debian's packages, without root.
# Usage: scripts/get_registry.sh FOLDER
set -eu
mkdir -p "$1/packages"
cd "$1/packages"
command -v apt-get >/dev/null || { echo "error: this is not Debian" >&2; exit 2; }
programs="docker-registry skopeo umoci"
# the libraries that an installation would bring: lines of 'ADDRESS' NAME_VERSION_ARCHITECTURE.deb SIZE HASH
# shellcheck disable=SC2086  # lists of names
libraries=$(apt-get install --print-uris -qq --no-install-recommends $programs | sed -n "s/^'[^']*' \(lib[^_]*\)_.*/\1/p")
# shellcheck disable=SC2086
apt-get -o Acquire::http::Timeout=10 -o Acquire::Retries=1 download -qq $programs $libraries
for package in *.deb; do
    dpkg -x "$package" ..
    rm "$package"
done
rmdir ../packages
