# Leaves the active environment, in tcsh: what the alias `deactivate` sources.

set _envpack_level = 0
if ($?CONDA_SHLVL) eval 'if ("$CONDA_SHLVL" =~ [1-9]*) set _envpack_level = "$CONDA_SHLVL"'
eval 'set _envpack_ours = $?__ENVPACK_SHLVL_'$_envpack_level
if (! $_envpack_ours) then
    /bin/sh -c 'echo "envpack: nothing to deactivate: the active environment was not activated by envpack" >&2'
    unset _envpack_level _envpack_ours
    exit 1
endif
source "$CONDA_PREFIX:q/.envpack/scripts.csh" "$CONDA_PREFIX:q/etc/conda/deactivate.d"
set _envpack_left = "$CONDA_PREFIX:q"

eval 'set _envpack_names = ($__ENVPACK_SHLVL_'$_envpack_level')'
unsetenv __ENVPACK_SHLVL_$_envpack_level
@ _envpack_level--
foreach _envpack_name ($_envpack_names)
    set _envpack_kept = __CONDA_SHLVL_${_envpack_level}_$_envpack_name
    eval 'set _envpack_was_set = $?'$_envpack_kept
    unsetenv $_envpack_name
    if ($_envpack_was_set) then
        eval 'setenv '$_envpack_name' $'$_envpack_kept':q'
    endif
    unsetenv $_envpack_kept
end
eval 'set _envpack_ours = $?__ENVPACK_SHLVL_'$_envpack_level # what lies beneath may be one of ours
if ($?_envpack_prompt) then
    set prompt = "$_envpack_prompt:q"
    if ($_envpack_ours) eval 'set prompt = "$CONDA_PROMPT_MODIFIER:q$_envpack_prompt:q"'
endif
rehash

if ($_envpack_level > 0) then
    source "$_envpack_left:q/.envpack/scripts.csh" "$CONDA_PREFIX:q/etc/conda/activate.d"
endif
if (! $_envpack_ours) then
    unalias deactivate
    unset _envpack_prompt
endif
set _envpack_alias = "`alias _envpack_deactivate_$_envpack_level`"
if ("$_envpack_alias:q" != "") then
    alias deactivate "$_envpack_alias:q"
    unalias _envpack_deactivate_$_envpack_level
endif
unset _envpack_alias _envpack_level _envpack_ours _envpack_left _envpack_names _envpack_name _envpack_kept _envpack_was_set
