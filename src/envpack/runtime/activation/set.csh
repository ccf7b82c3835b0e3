# NAME VALUE: exports a variable until the environment is left.

set _envpack_kept = __CONDA_SHLVL_${_envpack_level}_$1
unsetenv $_envpack_kept
eval 'set _envpack_was_set = $?'$1
if ($_envpack_was_set) then
    eval 'setenv '$_envpack_kept' $'$1':q' # in "" a backslash before a newline would go
endif
setenv $1 $2:q
set _envpack_names = ($_envpack_names $1)
unset _envpack_kept _envpack_was_set
