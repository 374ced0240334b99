"""Print podpy's runtime dependencies, one per line, as pip wants them."""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

for line in tomllib.loads(Path(sys.argv[1]).read_text())["project"]["dependencies"]:
    print(line)
