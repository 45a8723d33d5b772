# Sourced by the scripts beside it: makes .venv with the tested versions, or reuses the one that is there.
# What was installed is noted in .venv/installed, so that an installation that was cut off is gone on with.

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Python 3.11 or newer is needed; set PYTHON to one" >&2
  return 1
}

# Every file is checked by its hash. Elsewhere than on Linux with x86_64 a version may have no file for this platform:
# then the versions alone are kept to, and it is said. A file with another hash is never installed.
install_locked() {
  local pip=(.venv/bin/python -m pip install -qq --disable-pip-version-check) said
  if said=$("${pip[@]}" --require-hashes --no-deps -r requirements.lock 2>&1); then
    "${pip[@]}" --no-deps --no-build-isolation -e .
    return
  fi
  printf '%s\n' "$said" >&2
  if [ "$(uname -sm)" != "Linux x86_64" ] && [[ "$said" == *"No matching distribution"* ]]; then
    echo "requirements.lock has no file for $(uname -sm): installing by version, not by hash." >&2
    "${pip[@]}" -e '.[deploy,ncnn,data,dev]' -c constraints.txt
    return
  fi
  echo "error: the packages of requirements.lock cannot be installed; nothing else was" >&2
  return 1
}

make_environment() {
  local wanted python
  wanted=$(cat pyproject.toml constraints.txt requirements.lock | cksum)
  if [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  python=$(find_python)
  echo "Installing into .venv with $("$python" --version): about 3 minutes and 7 GB, once."
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  install_locked || return
  echo "$wanted" >.venv/installed
}

# Tools with dependencies of their own stay out of .venv.
make_tools() {
  local python
  python=$(find_python)
  [ -x build/tools/bin/python ] || "$python" -m venv build/tools
  build/tools/bin/python -m pip install -qq --disable-pip-version-check "$@"
}
