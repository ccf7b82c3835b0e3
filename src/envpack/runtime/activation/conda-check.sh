# `conda activate` and `micromamba activate` source this: the check that bin/activate makes by itself, as a warning.
if [ -f "${CONDA_PREFIX-}/.envpack/check.sh" ]; then
    /bin/sh "$CONDA_PREFIX/.envpack/check.sh" "$CONDA_PREFIX" warn || :
fi
