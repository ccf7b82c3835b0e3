# `conda activate` sources this: the check that bin/activate.csh makes by itself, as a warning.
if ($?CONDA_PREFIX) then
    if (-f "$CONDA_PREFIX:q/.envpack/check.sh") /bin/sh "$CONDA_PREFIX:q/.envpack/check.sh" "$CONDA_PREFIX:q" warn
endif
