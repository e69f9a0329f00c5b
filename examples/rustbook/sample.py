#!/usr/bin/env python3
"""Continues a prompt with transformers' LlamaForCausalLM from a folder that train.py wrote; --check compares the two.

    sample.py MODEL_DIR [--check] [--prompt TEXT] [--temperature T] [--seed N] [--tokens N]
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM


def check(folder, model, tokenizer):
    """The training's forward pass and transformers' on the same ids."""
    import train
    from safetensors.torch import load_file
    config = json.loads((folder / "config.json").read_text())
    train.CONFIG["num_hidden_layers"] = config["num_hidden_layers"]
    ours = train.Model(train.CONFIG, 0.0, torch.float32).eval()
    ours.load_state_dict(load_file(folder / "model.safetensors"))
    ids = tokenizer("<|endoftext|>Ownership is a set of rules that govern how a Rust program manages memory.",
                    return_tensors="pt").input_ids
    with torch.no_grad():
        a, b = ours.logits(ids), model(ids).logits
    print(f"{sum(p.numel() for p in model.parameters())} parameters; largest difference of a logit from transformers': "
          f"{(a - b).abs().max():.2e} (logits up to {b.abs().max():.1f})")
    for text in ("let mut v: Vec<i32> = vec![1, 2];\n\n    // naïve — 老虎\t's 12345", "a  b", "<|endoftext|># Vec"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text, text
    assert tokenizer("").input_ids == [] and tokenizer("<|endoftext|>").input_ids == [0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--prompt", default="")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=120)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    model = LlamaForCausalLM.from_pretrained(args.folder, dtype=torch.float32).eval()
    if args.check:
        check(args.folder, model, tokenizer)
        return
    # A page begins with the end mark. A prompt rather stands amid a page, where most windows of the training began.
    ids = tokenizer(args.prompt or tokenizer.bos_token, return_tensors="pt").input_ids
    torch.manual_seed(args.seed)
    how = dict(do_sample=False)
    if args.temperature:
        how = dict(do_sample=True, temperature=args.temperature, top_k=0, top_p=1.0)
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=args.tokens, pad_token_id=0, **how)
    print(tokenizer.decode(out[0], skip_special_tokens=True))


if __name__ == "__main__":
    main()
