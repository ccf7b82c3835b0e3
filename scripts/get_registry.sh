#!/bin/sh
# Unpack a registry, and programs that read from one, into a folder, for the tests: Debian's packages, without root.
# Usage: scripts/get_registry.sh FOLDER
set -eu
mkdir -p "$1/packages"
cd "$1/packages"
command -v apt-get >/dev/null || { echo "error: this is not Debian" >&2; exit 2; }
download() { apt-get -o Acquire::http::Timeout=10 -o Acquire::Retries=1 download -qq "$@"; }
download docker-registry skopeo umoci
# libraries of skopeo; their names differ between the releases of Debian
for library in libgpgme11 libgpgme11t64 libassuan0 libassuan9 libgpg-error0 libdevmapper1.02.1 libsubid4; do
    download "$library" 2>/dev/null || true
done
for package in *.deb; do
    dpkg -x "$package" ..
    rm "$package"
done
rmdir ../packages
