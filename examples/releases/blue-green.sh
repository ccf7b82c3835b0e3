#!/bin/sh
# Two deployments of a service side by side, one of which answers: releases without downtime, and a way back.
#
#   blue-green.sh DIR NAME release BUNDLE  deploy to the idle side, start it, switch to it when it is ready
#   blue-green.sh DIR NAME canary BUNDLE   the same, but both sides run, and the new one gets 1 of 10 requests
#   blue-green.sh DIR NAME finish          end a canary: the new side gets all requests
#   blue-green.sh DIR NAME cancel          end a canary: the old side gets all requests
#   blue-green.sh DIR NAME back            start the previous release again, and switch to it
#   blue-green.sh DIR NAME start           start the side that answers, after a restart of the host
#   blue-green.sh DIR NAME status          print which side answers at which port
#
# NAME is a command of the bundle that takes its port from the variable PORT and states what says that it is ready.
# DIR gets: blue/ and green/, the deployments; current, a link to the one that answers; upstream.conf, what an upstream
# block of nginx includes; logs/; *.pid; and *.answered, the last release of each side that got requests. Nothing changes
# for users until the new side is ready: if it does not start, it is stopped, the old one goes on, the idle side gets its
# previous release back, and the exit code is not 0. After an interruption, run the same command again.
#
# Variables: PORTS="8001 8002", those of blue and green; READY=60, seconds until a side must be ready; STOP, seconds that
# a side may take to end (default: "stop" in the spec, else 10); GRACE=2, seconds between the switch and the stop of the
# old side; RELOAD, a command that makes the proxy read upstream.conf, such as "nginx -s reload"; ENVPACK=envpack, the
# command that deploys, such as "python3 runtime.pyz"; ENVPACK_OPTIONS, further options of its deploy. The last three are
# parts of a shell's command: paths with blanks need quotes in them.
set -eu

usage() {
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

die() {
    echo "blue-green: error: $1" >&2
    exit 1
}

[ $# -ge 3 ] || usage
dir=$1 name=$2 action=$3 bundle=${4-} from=$PWD
case $action in
release | canary) [ $# -eq 4 ] || usage ;;
finish | cancel | back | start | status) [ $# -eq 3 ] || usage ;;
*) usage ;;
esac
ports=${PORTS:-8001 8002}

port_of() {
    if [ "$1" = blue ]; then echo "${ports% *}"; else echo "${ports#* }"; fi
}

for side in blue green; do
    case $(port_of "$side") in
    '' | 0* | *[!0-9]* | ??????*) die "PORTS is '$ports', and must be two ports, such as '8001 8002'" ;;
    esac
    [ "$(port_of "$side")" -le 65535 ] || die "PORTS: $(port_of "$side") is larger than 65535"
done
[ "$(port_of blue)" != "$(port_of green)" ] || die "PORTS: blue and green have the same port"

case $dir in
/*) ;;
*) dir=./$dir ;; # neither CDPATH nor an option
esac
case $action in
release | canary) mkdir -p "$dir" ;;
*) [ -d "$dir" ] || die "$dir does not exist: there is no release yet" ;;
esac
cd "$dir"
dir=$(pwd)
# shellcheck disable=SC3067 # dash, bash and busybox have it
[ -O . ] || die "$dir belongs to another user"
[ -z "$(find . -prune -perm -0002)" ] || die "$dir can be written by all users: chmod o-w $dir"

other() {
    if [ "$1" = blue ]; then echo green; else echo blue; fi
}

# In the caller's directory, for relative paths; without the lock, which ends with this script.
run_envpack() {
    (cd "$from" && eval "exec ${ENVPACK:-envpack} \"\$@\"") 9>&-
}

# Prints when a process was started, in ticks since boot, for its id alone may be another process by now (proc(5));
# nothing if it has ended.
started() {
    sed -n 's/.*) [^ZX] //p' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 19
}

# Sets pid to the process of a side, or to nothing.
find_side() {
    pid='' start=''
    [ ! -f "$1.pid" ] || read -r pid start <"$1.pid" || :
    if [ -z "$start" ] || [ "$(started "$pid")" != "$start" ]; then pid=''; fi
}

start_side() {
    find_side "$1"
    [ -z "$pid" ] || return 0
    echo "Starting $1 at port $(port_of "$1")" >&2
    pid=$("./$1/bin/$name-run" --port "$(port_of "$1")" --log logs --wait-ready "${READY:-60}" 9>&-) || return 1
    echo "$pid $(started "$pid")" >"$1.pid.new" && mv -f "$1.pid.new" "$1.pid"
}

# Whether a process of a group is left: that of a shell may end before those that it started.
group_runs() {
    cat /proc/[0-9]*/stat 2>/dev/null | grep -q ") [^ZX] [0-9]* $1 "
}

# Prints the seconds that a side may take to end.
stop_time() {
    seconds=${STOP:-$(run_envpack unit "$dir/$1" "$name" 2>/dev/null | sed -n 's/^TimeoutStopSec=\([0-9]*\).*/\1/p')}
    echo "${seconds:-10}"
}

stop_side() {
    find_side "$1"
    if [ -n "$pid" ]; then
        echo "Stopping $1" >&2
        left=$(stop_time "$1")
        kill -s TERM -- "-$pid" 2>/dev/null || :
        while group_runs "$pid" && [ "$left" -gt 0 ]; do
            sleep 1
            left=$((left - 1))
        done
        ! group_runs "$pid" || kill -s KILL -- "-$pid" 2>/dev/null || :
    fi
    rm -f "$1.pid"
}

# upstream LINE...: replaces upstream.conf and has the proxy read it.
upstream() {
    printf '%s\n' "$@" >upstream.conf.new || return 1
    mv -f upstream.conf.new upstream.conf || return 1
    [ -z "${RELOAD-}" ] || sh -c "$RELOAD" 9>&-
}

server() {
    echo "server 127.0.0.1:$(port_of "$1")${2:+ weight=$2};"
}

canary_runs() {
    [ -f upstream.conf ] && [ "$(grep -c '^server ' upstream.conf)" -eq 2 ]
}

# Prints the digest of the manifest of the release at a side.
release_at() {
    sed -n 's/^ "manifest_sha256": "\([0-9a-f]*\)".*/\1/p' "$1/.envpack/deployment.json" 2>/dev/null
}

has_answered() {
    [ -f "$1.answered" ] && [ "$(release_at "$1")" = "$(cat "$1.answered")" ]
}

# Takes back what was deployed to the idle side and did not answer in the end, so that "back" finds what did before.
take_back() {
    if [ -f "$1.answered" ] && ! has_answered "$1"; then
        run_envpack rollback "$dir/$1" || rm -f "$1.answered" # no previous generation is kept
    fi
}

record() {
    release_at "$1" >"$1.answered.new" && mv -f "$1.answered.new" "$1.answered"
}

# Points current to a side. rename(2): there is always a link.
link() {
    if [ -n "$current" ]; then record "$current" || return 1; fi # it may have been upgraded where it is
    record "$1" && ln -sfn "$1" current.new && mv -T current.new current
}

# Sends all requests to a side; false, with all as it was, when the proxy does not take it.
switch_to() {
    if ! upstream "$(server "$1")" || ! link "$1"; then
        [ -z "$current" ] || upstream "$(server "$current")" || :
        return 1
    fi
    echo "$1 answers" >&2
}

# Switches to a side that is ready, and stops the other one.
take_over() {
    switch_to "$1" || give_up "$1" "the proxy could not be switched to $1"
    if [ -n "$current" ]; then
        sleep "${GRACE:-2}"
        stop_side "$current"
    fi
}

# Stops the idle side and ends with an error.
give_up() {
    stop_side "$1"
    take_back "$1"
    die "$2${current:+; $current still answers}"
}

# Sends all requests to the current side, and stops the other one.
keep_current() {
    if [ -n "$current" ]; then
        start_side "$current" || die "$current did not start"
        upstream "$(server "$current")" || die "the proxy could not be switched to $current"
        sleep "${GRACE:-2}"
    fi
    stop_side "$new"
}

current=''
[ ! -L current ] || current=$(readlink current)
case $current in
'') new=blue ;;
blue | green) new=$(other "$current") ;;
*) die "$dir/current does not lead to blue or green" ;;
esac

if [ "$action" = status ]; then
    for side in blue green; do
        find_side "$side"
        state=stopped
        [ -z "$pid" ] || state="process $pid at port $(port_of "$side")"
        [ "$side" != "$current" ] || state="$state, current"
        [ "$side" = "$current" ] || ! canary_runs || state="$state, canary"
        [ ! -d "$side" ] || echo "$side: $state"
    done
    exit
fi

command -v flock >/dev/null || die "flock is not installed"
exec 9>lock
flock -n 9 || die "another release is under way in $dir"

find_side "$new"
case $action:$current in
back: | start: | finish: | cancel:) die "there is no release yet" ;;
finish:* | cancel:*) canary_runs || [ "$action:${pid:+runs}" = cancel:runs ] || die "no canary runs" ;;
start:*) ;;
*)
    ! canary_runs || die "a canary runs: finish or cancel it first"
    if [ -n "$pid" ]; then
        echo "$new still runs, after an interrupted release" >&2
        keep_current
    fi
    take_back "$new"
    ;;
esac

case $action in
release | canary)
    eval "run_envpack deploy ${ENVPACK_OPTIONS-} \"\$bundle\" \"\$dir/\$new\"" || die "$new was not deployed"
    start_side "$new" || give_up "$new" "$new did not start"
    if [ "$action" = release ] || [ -z "$current" ]; then
        take_over "$new"
    elif ! upstream "$(server "$current" 9)" "$(server "$new" 1)"; then
        upstream "$(server "$current")" || :
        give_up "$new" "the proxy did not take the canary"
    fi
    ;;
finish)
    start_side "$new" || die "$new did not start"
    take_over "$new"
    ;;
cancel)
    keep_current
    take_back "$new"
    ;;
back)
    has_answered "$new" || die "there is no previous release"
    start_side "$new" || die "$new did not start; $current still answers"
    take_over "$new"
    ;;
start)
    start_side "$current" || die "$current did not start"
    if canary_runs; then
        start_side "$new" || die "the canary did not start"
    else
        upstream "$(server "$current")" || die "the proxy could not be switched to $current"
    fi
    ;;
esac
