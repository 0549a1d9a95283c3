#!/bin/sh
# The tests as other machines run them: `tests/other_machines.sh [pytest's arguments]`, from the root of the repository.
# One line a machine; all are tried, a summary follows, and the exit code is 1 if any failed.
cd "$(dirname "$0")/.." || exit 2
python="$PWD/.venv/bin/python"
[ -x "$python" ] || { echo "there is no $python: run 'make test' once" >&2; exit 2; }
summary="" code=0

machine() {
    name="$1"
    shift
    echo "== $name: $*"
    set -- env "$@" "$python" -m pytest
    # shellcheck disable=SC2086
    if eval '"$@"' "$given"; then result="passed"; else result="FAILED"; code=1; fi
    summary="$summary$result  $name
"
}

# The arguments as given, each quoted for the shell.
given=""
for argument in "$@"; do
    given="$given '$(printf %s "$argument" | sed "s/'/'\\\\''/g")'"
done

machine "as it is"            PYTHONHASHSEED=0
machine "AVX2 only"           ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2
machine "no vector units"     ATEN_CPU_CAPABILITY=default
machine "PyTorch's own engine" FEATVIS_ENGINE=torch
machine "one thread"          OMP_NUM_THREADS=1
printf '\n%s' "$summary"
exit "$code"
