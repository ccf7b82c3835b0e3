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
# block of nginx includes; logs/; and *.pid. Nothing changes for users until the new side is ready: if it does not start,
# it is stopped, the old one goes on, and the exit code is not 0.
#
# Variables: PORTS="8001 8002", those of blue and green; READY=60, seconds until a side must be ready; STOP=30, seconds
# that a side may take to end; GRACE=2, seconds between the switch and the stop of the old side; RELOAD, a command that
# makes the proxy read upstream.conf, such as "nginx -s reload"; ENVPACK=envpack, the command that deploys, such as
# "python3 runtime.pyz"; ENVPACK_OPTIONS, further options of its deploy.
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
dir=$1 name=$2 action=$3 bundle=${4-}
case $action in
release | canary) [ $# -eq 4 ] || usage ;;
finish | cancel | back | start | status) [ $# -eq 3 ] || usage ;;
*) usage ;;
esac
case $bundle in
'' | /* | *://*) ;;
*) bundle=$PWD/$bundle ;;
esac
mkdir -p -- "$dir/logs"
cd -- "$dir"
dir=$(pwd -P)
# shellcheck disable=SC3067 # dash, bash and busybox have it
[ -O . ] || die "$dir belongs to another user"
ports=${PORTS:-8001 8002}

port_of() {
    if [ "$1" = blue ]; then echo "${ports% *}"; else echo "${ports#* }"; fi
}

other() {
    if [ "$1" = blue ]; then echo green; else echo blue; fi
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
    if [ -z "$pid" ] || [ "$(started "$pid")" != "$start" ]; then pid=''; fi
}

start_side() {
    find_side "$1"
    [ -z "$pid" ] || return 0
    echo "Starting $1 at port $(port_of "$1")" >&2
    pid=$("./$1/bin/$name-run" --port "$(port_of "$1")" --log logs --wait-ready "${READY:-60}" 9>&-) || return 1
    echo "$pid $(started "$pid")" >"$1.pid.new"
    mv -f -- "$1.pid.new" "$1.pid"
}

stop_side() {
    find_side "$1"
    if [ -n "$pid" ]; then
        echo "Stopping $1" >&2
        left=${STOP:-30}
        kill -s TERM -- "-$pid" 2>/dev/null || :
        while [ "$(started "$pid")" = "$start" ] && [ "$left" -gt 0 ]; do
            sleep 1
            left=$((left - 1))
        done
        kill -s KILL -- "-$pid" 2>/dev/null || : # and what it started
    fi
    rm -f -- "$1.pid"
}

# upstream FILE-LINE...: replaces upstream.conf and has the proxy read it.
upstream() {
    printf '%s\n' "$@" >upstream.conf.new
    mv -f -- upstream.conf.new upstream.conf
    [ -z "${RELOAD-}" ] || sh -c "$RELOAD" 9>&-
}

server() {
    echo "server 127.0.0.1:$(port_of "$1")${2:+ weight=$2};"
}

# Sends all requests to a side; false, with all as it was, when the proxy does not take it.
switch_to() {
    if ! upstream "$(server "$1")"; then
        [ -z "$current" ] || upstream "$(server "$current")" || :
        return 1
    fi
    ln -sfn -- "$1" current.new
    mv -T -- current.new current # rename(2): there is always a link
    echo "$1 answers" >&2
}

# Switches to a side that is ready, and stops the other one.
take_over() {
    switch_to "$1" || {
        stop_side "$1"
        die "the proxy could not be switched to $1"
    }
    if [ -n "$current" ]; then
        sleep "${GRACE:-2}"
        stop_side "$current"
    fi
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
        [ ! -d "$side" ] || echo "$side: $state"
    done
    exit
fi

exec 9>lock
flock -n 9 || die "another release is under way in $dir"

find_side "$new"
case $action:$pid:$current in
finish::* | cancel::*) die "no canary runs" ;;
back:?*:* | release:?*:* | canary:?*:*) die "both sides run: finish or cancel the canary first" ;;
back:*: | start:*: | cancel:*:) die "there is no release yet" ;;
esac

case $action in
release | canary)
    # word splitting is wanted: both are commands and options
    # shellcheck disable=SC2086
    ${ENVPACK:-envpack} deploy ${ENVPACK_OPTIONS-} "$bundle" "$dir/$new" 9>&- || die "$new was not deployed"
    start_side "$new" || die "$new did not start${current:+; $current still answers}"
    if [ "$action" = release ] || [ -z "$current" ]; then
        take_over "$new"
    else
        upstream "$(server "$current" 9)" "$(server "$new" 1)" || {
            upstream "$(server "$current")" || :
            stop_side "$new"
            die "the proxy did not take the canary"
        }
    fi
    ;;
finish) take_over "$new" ;;
cancel)
    upstream "$(server "$current")" || die "the proxy could not be switched to $current"
    sleep "${GRACE:-2}"
    stop_side "$new"
    ;;
back)
    [ -d "$new" ] || die "there is no previous release"
    start_side "$new" || die "$new did not start; $current still answers"
    take_over "$new"
    ;;
start) start_side "$current" || die "$current did not start" ;;
esac
