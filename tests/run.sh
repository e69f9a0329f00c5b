#!/bin/sh
# Every check of the project: formatting, lints, all tests. Sets up what quickstart.sh sets up.
set -eu
cd "$(dirname "$0")/.."
. examples/setup.sh
setup
cargo fmt --check
cargo clippy --all-targets -- -D warnings
cargo test
