# `conda activate` and `micromamba activate` source this: the check that bin/activate.fish makes by itself, as a warning.
if test -f "$CONDA_PREFIX/.envpack/check.sh"
    /bin/sh "$CONDA_PREFIX/.envpack/check.sh" "$CONDA_PREFIX" warn
end
