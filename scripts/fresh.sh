#!/usr/bin/env bash
# Run the README's two commands on a minimal Debian that this script makes: `make fresh`. Needs root and debootstrap.
#
#   scripts/fresh.sh FOLDER [root] [user]
#
# FOLDER keeps the system between runs; remove it for a new one. The two ways to run:
#   root  as an administrator, in an ordinary shell
#   user  as an ordinary user whose machine is difficult: the source is read-only, its clone lies in a path with
#         blanks, HOME and /tmp are file systems of their own, /tmp is small, one processor, umask 077, no locale,
#         SIGINT and SIGHUP ignored (as nohup and some CI systems leave it), no standard input
#
# SUITE: Debian's release (bookworm); MIRROR: where its packages come from; INCLUDE: further packages, separated by
# commas. PIP_* variables and the host's certificate bundle (SSL_CERT_FILE) count inside.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${SUITE:-bookworm}
mirror=${MIRROR:-http://deb.debian.org/debian}
packages=python3,python3-venv,make,git,ca-certificates${INCLUDE:+,$INCLUDE}
folder=$(realpath -m "${1:?usage: scripts/fresh.sh FOLDER [root] [user]}")
shift
[[ $# -gt 0 ]] || set -- root user

die() {
    echo "error: $1" >&2
    exit 2
}
[[ $(id -u) == 0 ]] || die "only root can create a new system: sudo make fresh"
command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install debootstrap"

system=$folder/$suite
mkdir -p "$folder"
if [[ ! -e $system/.complete ]]; then
    rm -rf --one-file-system "$system"
    echo "Making a minimal Debian ($suite) in $system ..." >&2
    debootstrap --variant=minbase --include="$packages" "$suite" "$system" "$mirror" >"$folder/$suite.log" \
        || die "debootstrap failed; its output is in $folder/$suite.log"
    chroot "$system" useradd --create-home --shell /bin/bash builder
    touch "$system/.complete"
fi
if [[ -n ${SSL_CERT_FILE:-} ]]; then # of a network that has its own authority
    cp -L "$SSL_CERT_FILE" "$system/etc/ssl/certs/ca-certificates.crt"
fi
for file in resolv.conf hosts; do
    cp -L "/etc/$file" "$system/etc/$file"
done

rm -rf --one-file-system "$system/source"
git clone --quiet --bare . "$system/source"
chown -R root: "$system/source"
chmod -R a-w,a+rX "$system/source"
printf '[safe]\n\tdirectory = /source\n' >"$system/etc/gitconfig" # it belongs to root, and users clone it

variables=(LANG=C.UTF-8 TERM=dumb PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin)
while IFS='=' read -r name value; do
    case $name in
    PIP_INDEX_URL | PIP_EXTRA_INDEX_URL | PIP_TRUSTED_HOST | PIP_DEFAULT_TIMEOUT | *_proxy | *_PROXY)
        variables+=("$name=$value")
        ;;
    esac
done < <(env)

# Runs in a mount and process namespace of its own: whatever is mounted or started in it ends with it.
inside() { # inside SCRIPT
    unshare --mount --pid --fork --kill-child --mount-proc bash -euo pipefail -c "
        mount --bind '$system' '$system' && cd '$system'
        mount -t proc proc proc && mount -t sysfs -o ro sysfs sys && mount --rbind /dev dev
        mount -t tmpfs -o mode=1777 tmpfs run
        $1"
}

as_root() {
    inside "exec chroot . env -i HOME=/root ${variables[*]@Q} bash -c '
        rm -rf /root/envpack && git clone -q /source /root/envpack && cd /root/envpack && $commands'"
}

as_user() {
    local own=()
    for variable in "${variables[@]}"; do
        [[ $variable == LANG=* ]] || own+=("$variable")
    done
    rm -rf --one-file-system "$system/srv/a path with blanks"
    mkdir -m 0777 "$system/srv/a path with blanks"
    inside "
        mount -t tmpfs -o mode=0777,size=4g tmpfs home/builder && mount -t tmpfs -o mode=1777,size=64m tmpfs tmp
        trap '' INT HUP
        exec taskset --cpu-list $((RANDOM % $(nproc --all))) chroot --userspec=builder:builder . env -i HOME=/home/builder ${own[*]@Q} bash -c '
            umask 077
            cd \"/srv/a path with blanks\" && git clone -q /source envpack && cd envpack && $commands' </dev/null"
}

commands='time make demo && time make test'
for way; do
    case $way in
    root | user) ;;
    *) die "unknown argument '$way': use root or user" ;;
    esac
    echo "== $suite, $(chroot "$system" python3 --version), $way" >&2
    "as_$way"
done
