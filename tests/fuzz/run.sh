#!/bin/sh
# Runs every fuzz target (or those that are named) for SECONDS_EACH seconds, 600 where nothing is said. Needs nightly and cargo-fuzz.
set -eu
cd "$(dirname "$0")"
fixtures=../fixtures
fill() { # target, then the files of its corpus: cut to what a run can hold
    mkdir -p "corpus/$1"
    target=$1
    shift
    for seed in "$@"; do
        head -c 16000 "$seed" >"corpus/$target/$(echo "$seed" | cksum | cut -d' ' -f1)"
    done
}
fill gguf $fixtures/gguf/*.gguf $fixtures/gguf/models/*.gguf $fixtures/gguf_tokenizers/*.gguf
fill gguf_tokenizer $fixtures/gguf_tokenizers/*.gguf
fill safetensors $fixtures/*/*/*.safetensors
fill index $fixtures/*/*/*.index.json
fill config $fixtures/*/*/config*.json
fill tokenizer $fixtures/*/*/tokenizer.json
mkdir -p corpus/chat_template
python3 - <<'PY'
import json, pathlib
for path in pathlib.Path("../fixtures/chat").glob("*.json"):
    pathlib.Path("corpus/chat_template", path.stem).write_text(json.loads(path.read_text())["template"])
PY
for target in ${*:-gguf gguf_tokenizer safetensors index config tokenizer chat_template}; do
    echo "== $target"
    cargo +nightly fuzz run --fuzz-dir . "$target" -- -max_len=16384 -rss_limit_mb=2048 -timeout=20 \
        -max_total_time="${SECONDS_EACH:-600}" -print_final_stats=1
done
