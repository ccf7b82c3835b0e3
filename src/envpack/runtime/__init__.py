"""The part of envpack that is in every bundle: models, relocation, extraction, host checks, deployment.

Standard library only, Python 3.8 and later, and nothing imported from above this package: these very
files are zipped into ``.envpack/runtime.pyz`` of every bundle (see ``envpack.bundle.zipapp.runtime_zip``).
"""
