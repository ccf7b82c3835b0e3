# Sourced with a deployment's folder in $1: sets _python to a Python that can run the runtime, the environment's own or
# one on PATH. Where there is none, _python is empty, and _reason says what is wrong with the last one that was tried.

_python=
_reason="there is none in $1/bin or on PATH"
for _candidate in "$1/bin/python" "$1/bin/python3" python3 python; do
    command -v -- "$_candidate" >/dev/null || continue
    # Debian's python3-minimal, for one, has only a part of the standard library
    if _line=$("$_candidate" -I -S -c '
import sys
if sys.version_info < (3, 8):
    sys.exit("it is Python %d.%d" % sys.version_info[:2])
try:
    from importlib.util import find_spec
except ImportError:
    sys.exit("its standard library is incomplete: missing module importlib")
missing = [name for name in ("argparse", "ctypes", "hashlib", "http", "json", "urllib") if find_spec(name) is None]
if missing:
    sys.exit("its standard library is incomplete: missing module " + missing[0])
' 2>&1 </dev/null); then
        _python=$_candidate
        break
    fi
    _reason="$_candidate can't be used: $_line"
done
