#!/bin/sh
# podpy @VERSION@: a shell header, compiled code per version of Python, then a zip archive of the sources.
# -I -S: no site-packages, no user directory, no PYTHON* variable and no current directory is read.
set -u
python=/usr/bin/python3
for old in 3.5 3.6 3.7 3.8 3.9; do
    [ "$python" -ef "/usr/bin/python$old" ] && python=
done
if ! [ -x "$python" ]; then
    for name in python3.13 python3.14 python3.12 python3.11 python3.10 python3; do
        python=$(command -v "$name") && break
    done
fi
[ -n "$python" ] || { echo 'Error: podpy needs Python 3.10 or newer' >&2; exit 125; }
exec "$python" -I -S -c '
import sys
if sys.version_info < (3, 10): sys.exit("Error: podpy needs Python 3.10 or newer, this is " + sys.executable)
del sys.argv[0]
import _frozen_importlib_external as e, marshal, posix
PATH = sys.argv[0]
for FD in 0, 1, 2:
    try: posix.fstat(FD)
    except OSError: posix.open("/dev/null", posix.O_RDWR)
START, SIZE = {@BUNDLES@}.get(e.MAGIC_NUMBER, (0, 0))
if START:
    PATH = PATH if PATH[0] == "/" else posix.getcwd() + "/" + PATH
    FD = posix.open(PATH, posix.O_RDONLY | posix.O_CLOEXEC)
    HEAD = posix.pread(FD, 32768, START)
    BODY = 8 + int.from_bytes(HEAD[:8], "little")
    if BODY > 32768: HEAD = posix.pread(FD, BODY, START)
    CODE, INDEX = marshal.loads(HEAD[8:])
    BODY += START
    exec(CODE)
else: sys.path.insert(0, PATH)
from podpy.__main__ import main
main()
' "$0" "$@"
