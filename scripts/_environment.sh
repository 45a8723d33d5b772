# Sourced by the other scripts: makes .venv with the tested versions, or reuses an existing one.
# .venv/installed records a complete installation; an interrupted one is resumed.

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Python 3.11 or newer not found; set PYTHON to its path" >&2
  return 1
}

# Install with hash checking. On platforms other than Linux x86_64 a pinned version may have no file: then fall back to
# pinned versions without hashes, and say so. A file with another hash is never installed.
install_locked() {
  local pip=(.venv/bin/python -m pip install -qq --disable-pip-version-check) output
  if output=$("${pip[@]}" --require-hashes --no-deps -r requirements.lock 2>&1); then
    "${pip[@]}" --no-deps --no-build-isolation -e .
    return
  fi
  printf '%s\n' "$output" >&2
  if [ "$(uname -sm)" != "Linux x86_64" ] && [[ "$output" == *"No matching distribution"* ]]; then
    echo "requirements.lock has no files for $(uname -sm): installing pinned versions without hash checking." >&2
    "${pip[@]}" -e '.[deploy,ncnn,data,sweep,dev]' -c constraints.txt
    return
  fi
  echo "error: cannot install the packages of requirements.lock; see the output of pip above" >&2
  return 1
}

make_environment() {
  local wanted python
  wanted=$(cat pyproject.toml constraints.txt requirements.lock | cksum)
  if [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  python=$(find_python)
  echo "Installing into .venv with $("$python" --version): takes about 3 minutes and 7 GB, once."
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  install_locked || return
  echo "$wanted" >.venv/installed
}

# Tools with their own dependencies stay out of .venv.
make_tools() {
  local python
  python=$(find_python)
  [ -x build/tools/bin/python ] || "$python" -m venv build/tools
  build/tools/bin/python -m pip install -qq --disable-pip-version-check "$@"
}
