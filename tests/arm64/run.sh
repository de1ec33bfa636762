#!/bin/sh
# Runs tests on arm64: Debian's Python and the wheels for that processor, under qemu's user-mode emulation.
#
#   tests/arm64/run.sh [pytest's arguments]     by default: tests/ops tests/layers tests/kernels/cpu
#
# Everything is unpacked into .arm64/ (0.6 GB); nothing is installed, and root is not needed. Emulated code is ten to
# twenty times as slow, so this tells nothing about speed. QEMU_CPU names a processor, such as neoverse-n1; qemu's own
# choice has all extensions, among them SME, after whose use NumPy's warnings mean nothing.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD/.arm64
debian=$root/debian wheels=$root/wheels python=$root/debian/usr/bin/python

emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
skip() { echo "skipped: $1" >&2; exit 0; }
[ -n "$emulator" ] || skip "qemu-aarch64 is not here (Debian: apt-get install qemu-user-static)"
command -v apt-get > /dev/null && command -v dpkg > /dev/null || skip "apt-get and dpkg, which fetch Debian's Python for arm64, are not here"

if [ ! -x "$python" ]; then
    apt() {
        apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User= \
            -o Dir::State="$root/apt" -o Dir::State::status="$root/apt/status" -o Dir::Cache="$root/apt" "$@"
    }
    rm -rf "$debian" "$root/apt"
    mkdir -p "$debian" "$root/apt/lists/partial" "$root/apt/archives/partial"
    : > "$root/apt/status"
    apt update
    apt --yes --no-install-recommends --download-only install python3 libstdc++6 libgomp1
    for package in "$root"/apt/archives/*.deb; do dpkg -x "$package" "$debian"; done
    # sys.executable is this script, so that the tests' subprocesses are emulated too.
    printf '#!/bin/sh\nexec "%s" -L "%s" -0 "$0" "%s" "$@"\n' "$emulator" "$debian" "$debian/usr/bin/python3" > "$python"
    chmod +x "$python"
    echo "$wheels" > "$debian/usr/lib/python3/dist-packages/wheels.pth"  # some tests set a PYTHONPATH of their own
fi

if [ ! -e "$wheels" ] || [ pyproject.toml -nt "$wheels" ]; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    rm -rf "$wheels" "$wheels.part"
    "${PYTHON:-python3}" - <<'END' > "$root/requirements.txt"
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
tools = {"array-api-strict", "hypothesis", "joblib", "pytest"}
dev = project["optional-dependencies"]["dev"]
print(*project["dependencies"], *(line for line in dev if re.split("[^a-z0-9-]", line)[0] in tools), sep="\n")
END
    "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --target "$wheels.part" --only-binary=:all: \
        --implementation cp --python-version "$version" --platform manylinux_2_28_aarch64 \
        --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 --requirement "$root/requirements.txt"
    mv "$wheels.part" "$wheels"
    touch "$wheels"
fi

export PYTHONPATH="$PWD:$PWD/kernels" NUMBA_CACHE_DIR="$root/numba"
[ $# -gt 0 ] || set -- tests/ops tests/layers tests/kernels/cpu
"$python" -c 'import platform; print("Python", platform.python_version(), "on", platform.machine())'
exec "$python" -m pytest -p no:cacheprovider --quiet "$@"
