# Activates the environment that this file lies in, in tcsh: source DEST/bin/activate.csh
#
# Does what `activate` beside it does in other shells, and keeps former values in the same places; but PATH and the
# prompt are put back as they were even when they were changed in between. Programs are called by their paths, past a
# user's aliases; an alias with the name of a builtin can't be passed by in tcsh: a quoted name is always a program's.

set _envpack_problem = ""
set _envpack_sed = "/usr/bin/env PATH=/usr/bin:/bin sed" # whatever PATH may be
# tcsh does not tell which file it is reading, but has it open
set _envpack_here = ("" "`/bin/ls -l /proc/$$/fd |& $_envpack_sed -n 's|.* -> \(.*\)/bin/activate\.csh|\1|p'`")
set _envpack_here = "$_envpack_here[$#_envpack_here]:q"
if ("$_envpack_here:q" == "" && $?ENVPACK_PREFIX) eval 'set _envpack_here = "$ENVPACK_PREFIX:q"'

# HERE: true when the path written into the files leads here
alias _envpack_written_in '/bin/sh -c '"'"'[ -f "$0/.envpack/prefix" ] && IFS= read -r p <"$0/.envpack/prefix" && [ "$p" -ef "$0" ]'"'"' \!:1 >& /dev/null'

if ($?0) eval 'if ("$0:t:q" == activate.csh) set _envpack_problem = "$0:q must be sourced, not run, for it to change this shell"'
if ("$_envpack_problem:q" == "") then
    if (! -f "$_envpack_here:q/.envpack/runtime.pyz") then
        set _envpack_problem = "there is no environment in '$_envpack_here:q'; set its path: setenv ENVPACK_PREFIX DEST"
    else
        _envpack_written_in "$_envpack_here:q"
        if ($status) /bin/sh -c '/bin/sh "$0" >&2' "$_envpack_here:q/bin/conda-unpack"
        _envpack_written_in "$_envpack_here:q"
        if ($status) set _envpack_problem = "$_envpack_here:q is not activated: could not write its path into its files"
    endif
endif
unalias _envpack_written_in
if ("$_envpack_problem:q" != "") then
    /bin/sh -c 'printf "envpack: %s\n" "$0" >&2' "$_envpack_problem:q"
else
    # a requirement of the environment that this host does not meet stops the activation here: nothing has been
    # changed in the shell yet
    /bin/sh "$_envpack_here:q/.envpack/check.sh" "$_envpack_here:q"
    if ($status) set _envpack_problem = unmet
endif
if ("$_envpack_problem:q" != "") then
    unset _envpack_here _envpack_problem _envpack_sed
    exit 1
endif

# tcsh sources nothing but files; without one, changes of the variables are not seen
set _envpack_changes = "`/bin/sh -c '/usr/bin/env PATH=/usr/bin:/bin mktemp 2>/dev/null || :'`"

set _envpack_level = 0
if ($?CONDA_SHLVL) eval 'if ("$CONDA_SHLVL" =~ [1-9]*) set _envpack_level = "$CONDA_SHLVL"'
eval 'set _envpack_ours = $?__ENVPACK_SHLVL_'$_envpack_level
if ($_envpack_ours && $?CONDA_PREFIX) then
    if ("$CONDA_PREFIX:q" == "$_envpack_here:q") then # activating again is starting again
        set _envpack_former = $_envpack_level
        source "$_envpack_here:q/.envpack/deactivate.csh"
        @ _envpack_level = $_envpack_former - 1
    endif
endif
set _envpack_beneath = ""
if ($_envpack_level > 0 && $?CONDA_PREFIX) then
    set _envpack_beneath = "$CONDA_PREFIX:q"
endif
if ("$_envpack_beneath:q" != "") then
    source "$_envpack_here:q/.envpack/scripts.csh" "$_envpack_beneath:q/etc/conda/deactivate.d"
endif

setenv _ENVPACK_PATH "$_envpack_here:t:q"
set _envpack_modifier = "(`/usr/bin/env PATH=/usr/bin:/bin printenv _ENVPACK_PATH | $_envpack_sed 's/[%\!\\]/_/g'`) " # nothing that a prompt acts on
unsetenv _ENVPACK_PATH
if ($?CONDA_CHANGEPS1) then
    if ("$CONDA_CHANGEPS1:q" =~ {[FfNn]*,[Oo]ff,0}) set _envpack_modifier = ""
endif
if ($?prompt) then
    if (! $?_envpack_prompt) set _envpack_prompt = "$prompt:q"
    set prompt = "$_envpack_modifier:q$_envpack_prompt:q"
endif
set _envpack_path = "$_envpack_here:q/bin"
foreach _envpack_entry ($path:q)
    if ("$_envpack_beneath:q" == "" || "$_envpack_entry:q" != "$_envpack_beneath:q/bin") then
        set _envpack_path = "${_envpack_path}:$_envpack_entry"
    endif
end

alias _envpack_set 'source "$_envpack_here:q/.envpack/set.csh" \!:*' # also what variables.csh calls
set _envpack_names = ()
_envpack_set PATH "$_envpack_path:q"
if ("$_envpack_beneath:q" != "") then
    eval '_envpack_set CONDA_PREFIX_'$_envpack_level' "$_envpack_beneath:q"'
endif
_envpack_set CONDA_PREFIX "$_envpack_here:q"
_envpack_set CONDA_DEFAULT_ENV "$_envpack_here:t:q"
_envpack_set CONDA_PROMPT_MODIFIER "$_envpack_modifier:q"
set _envpack_variables = "$_envpack_here:q/.envpack/variables.csh"
if ("$_envpack_changes:q" != "") then
    /bin/sh "$_envpack_here:q/.envpack/changed-variables.sh" "$_envpack_here:q" csh >! "$_envpack_changes:q"
    if (! $status) set _envpack_variables = "$_envpack_changes:q"
endif
if (-f "$_envpack_variables:q") then
    source "$_envpack_variables:q"
endif
if ("$_envpack_changes:q" != "") /bin/rm -f "$_envpack_changes:q"
@ _envpack_above = $_envpack_level + 1
_envpack_set CONDA_SHLVL $_envpack_above
setenv __ENVPACK_SHLVL_$CONDA_SHLVL "$_envpack_names"

set _envpack_alias = "`alias deactivate`" # of another tool, a venv above all
if ("$_envpack_alias:q" != "" && "$_envpack_alias:q" !~ *.envpack/deactivate.csh*) then
    alias _envpack_deactivate_$_envpack_level "$_envpack_alias:q"
endif
alias deactivate 'source "$CONDA_PREFIX:q/.envpack/deactivate.csh"'
unalias _envpack_set
rehash
source "$_envpack_here:q/.envpack/scripts.csh" "$_envpack_here:q/etc/conda/activate.d"
unset _envpack_above _envpack_alias _envpack_beneath _envpack_changes _envpack_entry _envpack_former _envpack_here \
    _envpack_level _envpack_modifier _envpack_names _envpack_ours _envpack_path _envpack_problem _envpack_sed \
    _envpack_variables
