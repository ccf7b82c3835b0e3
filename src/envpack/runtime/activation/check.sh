# PREFIX [warn]: whether this host can run the environment in PREFIX. What `activate` sources in a subshell, and what
# other shells, and conda's activation, run with /bin/sh; it ends the subshell.
#
# Status 0: yes, or not known. Status 1: no, and stderr says why and what to do; with `warn` that is status 0 too.
#
# A check that passed is not made again on the same host while nothing has changed that can be seen without running a
# program: boot, driver, its libraries, devices, what the user sets. Its stamp is a line, see runtime/host/stamp.py.

set +eu
[ -z "${ZSH_VERSION-}" ] || { emulate sh && \unsetopt aliases; }
[ -z "${BASH_VERSION-}" ] || shopt -u failglob
set +f
# functions of the user's; ksh93 would lose the builtins
case ${KSH_VERSION-} in *93*) ;; *) unset -f command printf read 2>/dev/null || : ;; esac
case $1 in
    */.*.envpack/[0-9]*)
        command -p printf 'envpack: error: %s is a previous generation; activate the deployment itself\n' "$1" >&2
        [ -z "${2-}" ] || exit 0
        exit 1
        ;;
esac
[ "${ENVPACK_SKIP_CHECK-}" != 1 ] || exit 0
[ -f "$1/.envpack/manifest.sha256" ] && [ -r "$1/.envpack/manifest.sha256" ] || exit 0

# FOLDER...: adds the versions of the driver's libraries there to _key; their files are named after them
_libraries() {
    for _folder; do
        [ -e "$_folder/libcuda.so.1" ] || [ -e "$_folder/libnvidia-ml.so.1" ] || continue # reads no large folder
        for _line in "$_folder"/libcuda.so.*.* "$_folder"/libnvidia-ml.so.*.*; do
            [ ! -e "$_line" ] || _key="$_key ${_line##*/}"
        done
    done
}

# FILE: sets _line to its first line
_first() {
    _line=
    [ ! -r "$1" ] || IFS= read -r _line <"$1"
}

IFS=' ' read -r _digest _line <"$1/.envpack/manifest.sha256"
_first /proc/sys/kernel/hostname && _key="1|$_digest|$_line"
_first /proc/sys/kernel/random/boot_id && _key="$_key|$_line"
_first /proc/driver/nvidia/version && _key="$_key|$_line|"
if [ -e /dev/nvidiactl ] || [ -n "$_line" ]; then
    _device=0
    while [ "$_device" -lt 32 ]; do
        [ ! -r "/dev/nvidia$_device" ] || _key="$_key $_device"
        _device=$((_device + 1))
    done
    _libraries /usr/lib64 /usr/lib /usr/lib/*-linux-gnu /usr/lib/*-linux-gnu/nvidia/current /run/opengl-driver/lib
fi
_key="$_key|${CUDA_VISIBLE_DEVICES-all}|${CUDA_DEVICE_ORDER-}|${CONDA_OVERRIDE_CUDA-no}|${CONDA_OVERRIDE_GLIBC-no}"
_key="$_key|${LD_LIBRARY_PATH-}"
if [ -n "${LD_LIBRARY_PATH-}" ]; then
    _ifs=$IFS IFS=:
    set -f
    # shellcheck disable=SC2086 # a word for each folder
    set -- "$1" "${2-}" $LD_LIBRARY_PATH
    set +f
    IFS=$_ifs
    _prefix=$1 _warn=$2
    shift 2
    _libraries "$@"
    set -- "$_prefix" ${_warn:+"$_warn"}
fi

for _stamp in "$1/.envpack/check" "${XDG_CACHE_HOME:-${HOME-}/.cache}/envpack/checks/$_digest"; do
    [ -f "$_stamp" ] && [ -r "$_stamp" ] || continue
    while IFS= read -r _line; do
        [ "$_line" != "$_key" ] || exit 0
    done <"$_stamp"
done

. "$1/.envpack/python.sh"
if [ -n "$_python" ]; then
    "$_python" -I -S "$1/.envpack/runtime.pyz" check ${2:+--warn} --stamp "$_key" "$1" </dev/null >&2
    case $? in
        0) exit 0 ;;
        9 | 130) exit 1 ;; # this host can't run it; Ctrl-C
    esac
    command -p printf 'envpack: warning: could not check whether this host can run %s\n' "$1" >&2
    exit 0
fi

# a Python that does not start is the reason itself; without one no check is possible
[ -x "$1/bin/python" ] || exit 0
_line=$("$1/bin/python" -I -S -c '' 2>&1 </dev/null)
command -p printf 'envpack: error: Python in %s does not start on this host:\n  %s\n' "$1" "$_line" >&2
[ -z "${2-}" ] || exit 0
exit 1
