# PREFIX SHELL: prints what sets the environment's variables, as SHELL (sh, fish, csh) reads it, if they were changed
# after PREFIX was deployed, as by `conda env config vars set` or by a package that was installed there. Status 1: they
# were not. It ends the subshell it is sourced in.
#
# The files of a bundle all have the same time, 1980-01-01: what is newer than this file was changed.

set +efu
[ -z "${ZSH_VERSION-}" ] || { emulate sh && \unsetopt aliases; }
# functions of the user's; ksh93 would lose the builtins
case ${KSH_VERSION-} in *93*) ;; *) unset -f command printf read 2>/dev/null || : ;; esac
[ -z "${BASH_VERSION-}" ] || shopt -u failglob

_changed=
for _file in "$1/conda-meta/state" "$1/etc/conda/env_vars.d"/*; do
    [ ! "$_file" -nt "$1/.envpack/changed-variables.sh" ] || _changed=yes
done
[ -n "$_changed" ] || exit 1

. "$1/.envpack/python.sh"
if [ -n "$_python" ]; then
    "$_python" -I -S -c '
import sys
sys.path.insert(0, sys.argv[1] + "/.envpack/runtime.pyz")
from pathlib import Path
from envpack.runtime.activation.variables import current_script
from envpack.runtime.errors import EnvpackError
try:
    sys.stdout.buffer.write(current_script(Path(sys.argv[1]), sys.argv[2]))
except EnvpackError as error:
    sys.exit("envpack: warning: " + error.message)
' "$1" "$2" </dev/null && exit 0
else
    command -p printf 'envpack: warning: the variables of %s were changed, but no usable Python was found to read them: %s\n' \
        "$1" "$_reason" >&2
fi
exit 1
