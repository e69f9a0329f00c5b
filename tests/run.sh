#!/bin/sh
# Every check of the project: formatting, lints, all tests, the example server. Sets up what quickstart.sh sets up.
set -eu
cd "$(dirname "$0")/.."
. examples/setup.sh
setup
# a browser, for the test of reports, which is skipped without one
if ! { command -v chromium || command -v google-chrome; } >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    say "installing chromium"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; } >&2 ||
        say "chromium could not be installed: reports are not tried in a browser"
fi
cargo fmt --all --check
cargo clippy --all-targets -- -D warnings
cargo test
# one for each instrument, on the model that is part of the library
for example in stream_table edits lens attribute measure ablate patch steer report; do
    cargo run --quiet --example "$example"
done
# fails where the collapse does not show
cargo run --quiet --example rank_collapse

# the example server is built here only, and driven by OpenAI's own client
cargo clippy -p thalweg-serve --all-targets -- -D warnings
cargo build -p thalweg-serve
target=${CARGO_TARGET_DIR:-target}
python=$(command -v python3 || command -v python)
if ! "$python" -c 'import openai' 2>/dev/null; then
    [ -d "$target/openai" ] || "$python" -m venv "$target/openai"
    python=$target/openai/bin/python
    "$python" -c 'import openai' 2>/dev/null || "$python" -m pip install -q openai==3.54.0
fi
"$python" examples/serve/test_client.py "$target/debug/thalweg-serve"
