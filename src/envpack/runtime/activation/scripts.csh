# Sources the packages' scripts in the folder given, as conda orders them: by bytes, for deactivate.d the last first.

set _envpack_order = ()
if (-d "$1:q") then
    set _envpack_noglob = $?noglob
    set noglob # or a name that begins with ~, as some do to be the last, is taken for a user's
    set _envpack_files = (`/usr/bin/env LC_ALL=C /bin/ls $1:q`)
    if (! $_envpack_noglob) unset noglob
    foreach _envpack_file ($_envpack_files:q)
        if ("$_envpack_file:q" !~ *.csh || "$_envpack_file:q" == "~envpack-check.csh") continue # it is for conda
        if ("$1:t:q" == deactivate.d) then
            set _envpack_order = ("$1:q/$_envpack_file:q" $_envpack_order:q)
        else
            set _envpack_order = ($_envpack_order:q "$1:q/$_envpack_file:q")
        endif
    end
    unset _envpack_noglob _envpack_files _envpack_file
endif
foreach _envpack_script ($_envpack_order:q)
    source "$_envpack_script:q"
end
unset _envpack_order _envpack_script
