# Activates the environment that this file lies in, in fish: source DEST/bin/activate.fish
#
# Does what `activate` beside it does in other shells, and keeps former values in the same places. `builtin` stands
# before every builtin whose name a function of the user's may have (fish reserves the other names).

function _envpack_activate
    set -l here (_envpack_find)
    and set -l prefix (_envpack_write_in $here)
    and _envpack_check_host $prefix
    or begin
        _envpack_tidy
        return 1
    end
    if _envpack_is_active; and test "$CONDA_PREFIX" = $prefix
        _envpack_leave # activating again is starting again
    end
    set -l level (_envpack_level)
    set -l name (string replace -r '.*/' '' -- $prefix)
    set -l modifier "("(string replace -ra '[`$\\\\%!]' _ -- $name)") "
    if string match -qri '^(f.*|n.*|off|0)$' -- "$CONDA_CHANGEPS1"
        set modifier ''
    end
    set -l beneath (_envpack_beneath)
    _envpack_run $beneath/etc/conda/deactivate.d

    _envpack_copy PATH __CONDA_SHLVL_{$level}_PATH
    set -gx PATH (_envpack_path $prefix "$beneath" $PATH)
    set -g _envpack_names
    if set -q beneath[1]
        _envpack_set CONDA_PREFIX_$level $beneath
    end
    _envpack_set CONDA_PREFIX $prefix
    _envpack_set CONDA_DEFAULT_ENV $name
    _envpack_set CONDA_PROMPT_MODIFIER $modifier
    if set -l changed (/bin/sh $prefix/.envpack/changed-variables.sh $prefix fish)
        string join \n -- $changed | builtin source
    else if test -f $prefix/.envpack/variables.fish
        builtin source $prefix/.envpack/variables.fish
    end
    _envpack_set CONDA_SHLVL (builtin math $level + 1)
    set -gx __ENVPACK_SHLVL_$CONDA_SHLVL "$_envpack_names"
    set -e _envpack_names

    _envpack_save_deactivate $level
    function deactivate -d 'Leave the active environment'
        _envpack_deactivate
    end
    _envpack_wrap_prompt
    _envpack_run $prefix/etc/conda/activate.d
    _envpack_tidy
end

function _envpack_deactivate
    if not _envpack_is_active
        _envpack_say 'nothing to deactivate: the active environment was not activated by envpack'
        _envpack_tidy
        or builtin functions -e deactivate
        return 1
    end
    set -l saved _envpack_deactivate_(builtin math (_envpack_level) - 1)
    _envpack_leave
    _envpack_tidy
    or builtin functions -e deactivate
    if builtin functions -q $saved
        builtin functions -e deactivate
        builtin functions -c $saved deactivate
        builtin functions -e $saved
    end
    return 0
end

# LEVEL: saves the function `deactivate` of another tool, a venv above all.
function _envpack_save_deactivate
    builtin functions -q deactivate
    and not builtin functions -q _envpack_deactivate_$argv # activated again
    and not builtin functions deactivate | string match -q '*_envpack_deactivate*'
    and builtin functions -c deactivate _envpack_deactivate_$argv
end

function _envpack_leave
    set -l prefix $CONDA_PREFIX
    set -l list __ENVPACK_SHLVL_$CONDA_SHLVL
    set -l level (builtin math (_envpack_level) - 1)
    _envpack_run $prefix/etc/conda/deactivate.d

    for name in (string split -n ' ' -- "$$list")
        _envpack_restore $level $name
    end
    set -e -g $list
    set -l beneath (_envpack_beneath)
    # changed while active: take out what was put in; otherwise put back exactly what was there
    set -l former __CONDA_SHLVL_{$level}_PATH
    if test "$PATH" = (string join : -- (_envpack_path $prefix "$beneath" $$former))
        _envpack_restore $level PATH
    else if set -l position (builtin contains -i -- $prefix/bin $PATH)
        set -q beneath[1]; and set PATH[$position] $beneath/bin; or set -e PATH[$position]
    end
    set -e -g $former
    _envpack_run $beneath/etc/conda/activate.d
end

# PREFIX: a requirement of the environment that this host does not meet stops the activation here: nothing has been
# changed in the shell yet.
function _envpack_check_host
    /bin/sh $argv/.envpack/check.sh $argv
end

# Prints the environment's folder, free of symbolic links.
function _envpack_find
    set -l file (status filename)
    set -l here $ENVPACK_PREFIX # needed only when this text came through a pipe
    if string match -q '*/*' -- $file
        set here (string replace -r '[^/]*$' '..' -- $file)
    else if string match -q '*.fish' -- $file
        set here ..
    end
    set here (builtin realpath "$here" 2>/dev/null)
    if not test -f "$here/.envpack/runtime.pyz"
        _envpack_say "there is no environment in '$here': source bin/activate.fish of the environment"
        return 1
    end
    builtin echo $here
end

# HERE: prints the path written into the files, after seeing to it that it leads here.
function _envpack_write_in
    _envpack_written_in $argv
    or begin
        /bin/sh $argv/bin/conda-unpack >&2
        and _envpack_written_in $argv
    end
    or begin
        _envpack_say "$argv is not activated: could not write its path into its files"
        return 1
    end
end

function _envpack_written_in
    test -f $argv/.envpack/prefix
    and read -l -L prefix <$argv/.envpack/prefix
    and test "$argv" = (builtin realpath $prefix 2>/dev/null)
    and builtin echo $prefix
end

# How many environments are active.
function _envpack_level
    string match -r '^[0-9]+$' -- "$CONDA_SHLVL"
    or builtin echo 0
end

# Prints the environment that is active, if any.
function _envpack_beneath
    test (_envpack_level) -gt 0; and test -n "$CONDA_PREFIX"; and builtin echo $CONDA_PREFIX
end

# True when envpack activated the uppermost.
function _envpack_is_active
    set -q __ENVPACK_SHLVL_(_envpack_level)
end

# NAME VALUE: exports a variable until the environment is left; also what variables.fish calls.
function _envpack_set
    _envpack_copy $argv[1] __CONDA_SHLVL_(_envpack_level)_$argv[1]
    set -gx $argv
    set -ga _envpack_names $argv[1]
end

# LEVEL NAME
function _envpack_restore
    _envpack_copy __CONDA_SHLVL_$argv[1]_$argv[2] $argv[2]
    set -e -g __CONDA_SHLVL_$argv[1]_$argv[2]
end

# FROM TO: makes TO what FROM is: unset, a variable of this shell only, or exported.
function _envpack_copy
    set -l from $argv[1]
    set -e -g $argv[2]
    if set -qgx $from
        set -gx $argv[2] $$from
    else if set -qg $from
        set -gu $argv[2] $$from
    end
end

# PREFIX BENEATH ENTRY...: prints what PATH is in the environment: its bin first, without that of the one beneath.
function _envpack_path
    set -l entries $argv[3..-1]
    if test -n "$argv[2]"; and set -l position (builtin contains -i -- $argv[2]/bin $entries)
        set -e entries[$position]
    end
    builtin printf '%s\n' $argv[1]/bin $entries
end

# DIR: sources the packages' scripts in it, as conda orders them: by bytes, and for deactivate.d the last first.
function _envpack_run
    set -l scripts $argv/*.fish # none without a folder
    if set -q scripts[1]
        set scripts (string match -v '*/~envpack-check.fish' -- $scripts) # which is for conda
    end
    if set -q scripts[2] # fish has 9 before 10, and follows the locale
        set scripts (string join \n -- $scripts | LC_ALL=C command sort)
    end
    if string match -q '*/deactivate.d' -- "$argv"
        set scripts $scripts[-1..1]
    end
    for script in $scripts
        builtin source $script
    end
end

# The prompt shows the environment, unless conda's own prompt is there, which does.
function _envpack_wrap_prompt
    status is-interactive
    and builtin functions -q fish_prompt
    and not builtin functions -q __conda_add_prompt _envpack_user_prompt
    or return 0
    builtin functions -c fish_prompt _envpack_user_prompt
    function fish_prompt
        set -l prompt (_envpack_user_prompt) # first, for it may show the last status
        builtin printf '%s' $CONDA_PROMPT_MODIFIER
        builtin printf '%s\n' $prompt
    end
end

function _envpack_unwrap_prompt
    if builtin functions -q _envpack_user_prompt
        builtin functions -e fish_prompt
        builtin functions -c _envpack_user_prompt fish_prompt
        builtin functions -e _envpack_user_prompt
    end
end

function _envpack_say
    builtin printf 'envpack: %s\n' $argv >&2
end

# Leaves nothing behind but the functions that a deactivation needs; false when none of ours is active any more.
function _envpack_tidy
    set -l level (_envpack_level)
    while test $level -gt 0
        set -q __ENVPACK_SHLVL_$level; and return 0
        set level (builtin math $level - 1)
    end
    _envpack_unwrap_prompt
    builtin functions -e _envpack_{activate,beneath,check_host,copy,deactivate,find,is_active,leave,level,path,restore,run} \
        _envpack_{save_deactivate,say,set,tidy,unwrap_prompt,wrap_prompt,write_in,written_in}
    return 1
end

if status stack-trace | string match -qr '\S'
    _envpack_activate
else
    _envpack_say (status filename)' must be sourced, not run, for it to change this shell'
    false
end
