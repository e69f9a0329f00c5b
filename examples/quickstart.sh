#!/bin/sh
# From a fresh clone to a semantic search and a text on the GPU: sets up a Vulkan driver and the model, builds, and runs.
# With --setup-only it stops before the build.
set -eu
cd "$(dirname "$0")/.."
. examples/setup.sh
setup
[ "${1:-}" != --setup-only ] || exit 0

query="what happens with lines that are empty or too long?"
sentence="The river cuts its deepest channel where the water runs fastest."

cargo build --release --bin thalweg --example stream_table
run() { cargo run --release --quiet "$@"; }

echo
echo "\$ thalweg search --model $MODEL \"$query\" README.md"
run --bin thalweg -- search --model "$MODEL" "$query" README.md
echo
echo "The residual stream of \"$sentence\""
run --example stream_table -- "$MODEL" "$sentence"
echo
echo "\$ thalweg generate --prompt \"Ownership is\" --max-tokens 60     (the small language model in the binary)"
run --bin thalweg -- generate --prompt "Ownership is" --max-tokens 60
