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

make_environment() {
  local wanted python
  wanted=$(cat pyproject.toml constraints.txt | cksum)
  if [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  python=$(find_python)
  echo "Installing into .venv with $("$python" --version): about 3 minutes and 7 GB, once."
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install -qq --disable-pip-version-check -e '.[deploy,ncnn,data,dev]' -c constraints.txt
  echo "$wanted" >.venv/installed
}
