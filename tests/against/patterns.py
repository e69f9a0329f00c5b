"""Edited attention patterns against the same in PyTorch: rows of what torch.nn.functional.softmax gives in each block are
changed on the way, in fixtures of BERT, GPT-2, Llama with shared heads, Gemma 2 and others.

    cargo build && python tests/against/patterns.py [--write]     --write: what PyTorch gives, into tests/fixtures/patterns.json

    transformers 5.23.0, torch

The stream after the last block has to agree within 2e-5, relative, and to differ from the unedited one by more than 1e-3. The
exit status is 1 where it does not.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import safetensors.torch
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
IDS = [3, 14, 15, 9, 2, 6, 5, 35]
EDITS = [
    {"block": 0, "tokens": [3, 6], "head": 1, "keys": [1, 4], "op": "scale", "alpha": 0.25},
    {"block": 1, "tokens": [4, 8], "keys": [0, 3], "op": "set", "vector": [0.5, 0.0, 0.125]},
    {"block": 1, "tokens": [5, 7], "head": 0, "keys": [0, 2], "op": "add", "alpha": -0.5, "vector": [1.0, -0.5]},
]


def edit(pattern, edits):
    """[1, heads, queries, keys], changed in a copy."""
    pattern = pattern.clone()
    for e in edits:
        heads = slice(None) if "head" not in e else slice(e["head"], e["head"] + 1)
        own = pattern[:, heads, slice(*e["tokens"]), slice(*e["keys"])]
        vector = torch.tensor(e.get("vector", 0.0))
        changed = {"set": vector.expand_as(own), "add": own + e.get("alpha", 1.0) * vector, "scale": e.get("alpha", 1.0) * own}
        pattern[:, heads, slice(*e["tokens"]), slice(*e["keys"])] = changed[e["op"]]
    return pattern


def streams(model, edits):
    """What comes out of the last block, of each forward's own softmax changed by the edits of its block."""
    plain, calls, seen = torch.nn.functional.softmax, [], []

    def softmax(x, *arguments, **options):
        out = plain(x, *arguments, **options)
        calls.append(x.shape)
        return edit(out, [e for e in edits if e["block"] == len(calls) - 1])

    blocks = next(module for name, module in model.named_modules() if name.split(".")[-1] in ("layers", "layer", "h"))
    keep = lambda _m, _i, output: seen.append(output[0] if isinstance(output, tuple) else output)
    handle = blocks[-1].register_forward_hook(keep)
    torch.nn.functional.softmax = softmax
    with torch.no_grad():
        model(torch.tensor([IDS]))
    torch.nn.functional.softmax = plain
    handle.remove()
    assert len(calls) == len(blocks), f"{len(calls)} softmaxes in {len(blocks)} blocks"
    stream = seen[0].double()
    return stream if stream.dim() == 2 else stream[0]


def main():
    wrong, said = [], {}
    for folder in [
        "models/bert_odd", "models/roberta_odd", "decoders/gpt2_odd", "decoders/llama_gqa", "decoders/gemma2_odd",
        "decoders/mistral_window", "decoders/qwen3_norm", "decoders/neox_parallel",
    ]:
        path = ROOT / "tests/fixtures" / folder
        options = {"dtype": torch.float32, "attn_implementation": "eager"}
        model = transformers.AutoModel.from_pretrained(path, **options).eval()
        theirs, plain = streams(model, EDITS), streams(model, [])
        said[folder] = [float(f"{x:.7g}") for x in theirs.flatten()]
        blocks = model.config.num_hidden_layers
        post = folder.startswith("models/")
        point = f"blocks.{blocks - 1}.hook_{'normalized_' if post else ''}resid_post"
        with tempfile.TemporaryDirectory() as folder_of_edits:
            spec, out = pathlib.Path(folder_of_edits, "edits.json"), pathlib.Path(folder_of_edits, "out.safetensors")
            name = lambda e: {"point": f"blocks.{e['block']}.attn.hook_pattern", **{k: v for k, v in e.items() if k != "block"}}
            spec.write_text(json.dumps({"edits": [name(e) for e in EDITS]}))
            line = [ROOT / "target/debug/thalweg", "stream", "tap", "--model", path, "--ids", " ".join(map(str, IDS))]
            line += ["--dtype", "f32", "--points", point, "--edits", spec, "--out", out]
            subprocess.run(line, check=True, capture_output=True)
            ours = safetensors.torch.load_file(out)[point].double()
        error = float((ours - theirs).norm() / theirs.norm())
        change = float((plain - theirs).norm() / theirs.norm())
        print(f"{folder:24} within {error:.1e}, changed by {change:.1e}")
        if not (error <= 2e-5 and change > 1e-3):
            wrong.append(folder)
    if "--write" in sys.argv[1:]:
        text = json.dumps({"ids": IDS, "edits": EDITS, "streams": said})
        (ROOT / "tests/fixtures/patterns.json").write_text(text + "\n")
    print("\n".join(f"{folder} disagrees" for folder in wrong))
    return 1 if wrong else 0


sys.exit(main())
