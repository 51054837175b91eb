#!/usr/bin/env bash
# Writes requirements.lock from pyproject.toml: every package that the checkout installs, each with its exact version.
# Versions that are locked already stay as they are; give package names to let those move: deploy/lock.sh fastapi rich
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
"$python" -c "import piptools" 2>/dev/null || "$python" -m pip install --quiet "pip-tools==7.6.2"
keep="$(mktemp)"
fresh="$(mktemp)"
trap 'rm -f "$keep" "$fresh"' EXIT
if [ -f requirements.lock ]; then cp requirements.lock "$keep"; else echo "torch==2.13.0" >"$keep"; fi
for name in "$@"; do sed -i "/^${name}==/d" "$keep"; done
"$python" -m piptools compile --quiet --extra dev --strip-extras --no-emit-index-url --no-emit-find-links \
  --no-emit-trusted-host --no-annotate --no-header --allow-unsafe --constraint "$keep" --output-file "$fresh" pyproject.toml
{
  echo "# Every package of a checkout, written by deploy/lock.sh from pyproject.toml; see docs/development.md."
  # pip itself stays as the virtual environment brings it: it would have to replace itself while it installs.
  # What follows a '+' names one build of a version (CPU, CUDA): which one is right differs from machine to machine.
  grep -E "^[A-Za-z0-9._-]+==" "$fresh" | grep -v "^pip==" | sed -E 's/\+[A-Za-z0-9.]+$//'
} >requirements.lock
