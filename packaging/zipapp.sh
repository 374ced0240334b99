#!/bin/bash
# Build podpy.pyz: one file that runs wherever there is Python 3.10 or newer.
#
#   bash packaging/zipapp.sh FILE
#
# Dependencies come from PODPY_DEPENDENCIES (a directory pip installed into) or are
# installed by pip into build/dependencies.  Code is compiled for every supported
# version of Python found here; other versions run from the sources inside.
set -euo pipefail

output=${1:?usage: zipapp.sh FILE}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dependencies=${PODPY_DEPENDENCIES:-$root/build/dependencies}

usable() {  # a CPython of this very minor version that starts
    "$1" -IS -c "import sys; sys.exit(sys.version_info[:2] != (3, $2) or sys.implementation.name != 'cpython')" \
        2>/dev/null
}

interpreters=()
for minor in 10 11 12 13 14; do
    for candidate in "/usr/bin/python3.$minor" "/usr/local/bin/python3.$minor" \
        "$HOME"/.pyenv/versions/3."$minor".*/bin/python3; do
        if [ -x "$candidate" ] && usable "$candidate" "$minor"; then
            interpreters+=("$candidate")
            break
        fi
    done
done
[ ${#interpreters[@]} -gt 0 ] || { echo "zipapp.sh: no Python from 3.10 to 3.14 in /usr/bin" >&2; exit 1; }

mapfile -t wanted < <("${interpreters[-1]}" -I - "$root/pyproject.toml" <<'PYTHON'
import re, sys
text = open(sys.argv[1], encoding="utf-8").read()
block = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1]
for quote, name in re.findall(r"""^\s*(["'])(.+?)\1,?\s*$""", block, re.MULTILINE):
    print(name)
PYTHON
)

complete() {  # whether the directory has what every version of Python needs
    local each
    for each in "${wanted[@]}"; do
        [[ $each == *";"* ]] || [ -d "$dependencies/${each%%[<>=]*}" ] || return 1
    done
}

if ! complete; then
    "${interpreters[-1]}" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --upgrade --target "$dependencies" "${wanted[@]%%;*}"
fi

"${interpreters[-1]}" -I "$root/packaging/zipapp.py" "$output" "$dependencies" "${interpreters[@]}"
echo "$output: $(stat -c %s "$output") bytes, compiled for: ${interpreters[*]}"
