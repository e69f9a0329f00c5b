#!/usr/bin/env python3
"""Trains rustbook, a small model of Llama's architecture, on the text that corpus.py made, on one CPU core.

    train.py --data DIR --out DIR [--minutes 84] [--resume]

DIR/train.txt and DIR/val.txt are read. The learning rate follows the clock, so the run ends annealed after the given
minutes on a machine of any speed. Writes OUT/checkpoint.pt (now and then), OUT/train.log and OUT/model in Hugging
Face's form. --resume goes on from the checkpoint, the clock included; --context may then differ.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

END = "<|endoftext|>"
CONFIG = dict(vocab_size=2048, hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=8,
              num_key_value_heads=4, head_dim=32, max_position_embeddings=512, rope_theta=10000.0, rms_norm_eps=1e-5)


def make_tokenizer(text, folder):
    """Byte-level BPE as GPT-2's: what GGUF calls tokenizer model "gpt2", pre "gpt-2"."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=CONFIG["vocab_size"], special_tokens=[END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(text.split(END), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, unk_token=END,
                                   add_bos_token=False, clean_up_tokenization_spaces=False,
                                   model_max_length=CONFIG["max_position_embeddings"])
    fast.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    # transformers 5 names the class otherwise; under this name both 4 and 5 know it.
    config = json.loads(path.read_text()) | dict(tokenizer_class="PreTrainedTokenizerFast", add_bos_token=False)
    path.write_text(json.dumps(config, indent=2) + "\n")
    return tokenizer


def encode(tokenizer, text):
    """Every page begins and ends with the end mark; the one that ends a page begins the next."""
    ids = [0]
    for encoding in tokenizer.encode_batch([page for page in text.split(END) if page]):
        ids += encoding.ids + [0]
    return torch.tensor(ids, dtype=torch.long)


class Block(nn.Module):
    """Parameters carry the names of transformers' LlamaForCausalLM, so the state is saved as it is."""

    def __init__(self, c):
        super().__init__()
        d, f = c["hidden_size"], c["intermediate_size"]
        self.heads, self.kv, self.width = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        self.eps = c["rms_norm_eps"]
        def linear(i, o):
            return nn.Linear(i, o, bias=False)
        self.self_attn = nn.ModuleDict(dict(
            q_proj=linear(d, self.heads * self.width), k_proj=linear(d, self.kv * self.width),
            v_proj=linear(d, self.kv * self.width), o_proj=linear(self.heads * self.width, d)))
        self.mlp = nn.ModuleDict(dict(gate_proj=linear(d, f), up_proj=linear(d, f), down_proj=linear(f, d)))
        self.input_layernorm = nn.RMSNorm(d, eps=self.eps)
        self.post_attention_layernorm = nn.RMSNorm(d, eps=self.eps)

    def forward(self, x, cos, sin, mask, dropout, attention_type):
        b, t, d = x.shape
        a = self.self_attn
        h = norm(x, self.input_layernorm)
        q = a.q_proj(h).view(b, t, self.heads, self.width).transpose(1, 2)
        k = a.k_proj(h).view(b, t, self.kv, self.width).transpose(1, 2)
        v = a.v_proj(h).view(b, t, self.kv, self.width).transpose(1, 2)
        q, k, v = rotate(q, cos, sin).to(attention_type), rotate(k, cos, sin).to(attention_type), v.to(attention_type)
        groups = self.heads // self.kv
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        # By hand: on CPU the fused attention's backward pass takes several times longer than these two products.
        scores = (q @ k.transpose(-1, -2)).float() * self.width ** -0.5 + mask
        y = torch.softmax(scores, -1).to(attention_type) @ v
        x = x + F.dropout(a.o_proj(y.transpose(1, 2).reshape(b, t, -1)), dropout, self.training)
        h = norm(x, self.post_attention_layernorm)
        m = self.mlp
        return x + F.dropout(m.down_proj(F.silu(m.gate_proj(h)) * m.up_proj(h)), dropout, self.training)


def norm(x, module):
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + module.eps) * module.weight


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    x = x.float()
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class Model(nn.Module):
    def __init__(self, c, dropout, attention_type=torch.bfloat16):
        super().__init__()
        self.c, self.dropout, self.attention_type = c, dropout, attention_type
        self.model = nn.ModuleDict(dict(embed_tokens=nn.Embedding(c["vocab_size"], c["hidden_size"]),
                                        layers=nn.ModuleList(Block(c) for _ in range(c["num_hidden_layers"])),
                                        norm=nn.RMSNorm(c["hidden_size"], eps=c["rms_norm_eps"])))
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = 0.02 / (math.sqrt(2 * c["num_hidden_layers"]) if "o_proj" in name or "down_proj" in name else 1)
                nn.init.normal_(p, std=std)
        width = c["head_dim"]
        frequency = c["rope_theta"] ** (-torch.arange(0, width, 2).float() / width)
        angles = torch.outer(torch.arange(c["max_position_embeddings"]).float(), frequency)
        angles = torch.cat((angles, angles), -1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def logits(self, ids):
        m, t = self.model, ids.shape[1]
        x = m.embed_tokens(ids)
        x = F.dropout(x, self.dropout, self.training)
        cos, sin = self.cos[:t], self.sin[:t]
        mask = torch.full((t, t), -1e9).triu(1)
        for block in m.layers:
            x = block(x, cos, sin, mask, self.dropout, self.attention_type)
        return F.linear(norm(x, m.norm), m.embed_tokens.weight)

    def forward(self, ids, targets):
        return F.cross_entropy(self.logits(ids).float().flatten(0, 1), targets.flatten())


def optimizers(model, args):
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    groups = [dict(params=[p for p in rest if p.dim() == 2], weight_decay=0.01, lr=args.lr),
              dict(params=[p for p in rest if p.dim() != 2], weight_decay=0.0, lr=args.lr)]
    if args.muon_lr:
        made = [torch.optim.Muon(matrices, lr=args.muon_lr, weight_decay=args.weight_decay, momentum=0.95)]
    else:
        made = []
        groups.append(dict(params=matrices, weight_decay=args.weight_decay, lr=args.lr))
    made.append(torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


class Batches:
    """Windows of the text in a new order each epoch, shifted each time so that the edges fall elsewhere."""

    def __init__(self, ids, context, rows, seed):
        self.ids, self.context, self.rows = ids, context, rows
        self.random = torch.Generator().manual_seed(seed)
        self.order, self.epoch = [], 0

    def next(self):
        windows = []
        while len(windows) < self.rows:
            if not self.order:
                shift = int(torch.randint(self.context, (1,), generator=self.random))
                count = (len(self.ids) - 1 - shift) // self.context
                self.order = [shift + self.context * int(i) for i in torch.randperm(count, generator=self.random)]
                self.epoch += 1
            start = self.order.pop()
            windows.append(self.ids[start:start + self.context + 1])
        both = torch.stack(windows)
        return both[:, :-1].contiguous(), both[:, 1:].contiguous()


@torch.no_grad()
def validate(model, ids, context):
    model.eval()
    count = (len(ids) - 1) // context
    x, y = ids[:count * context].view(count, context), ids[1:count * context + 1].view(count, context)
    total = 0.0
    for i in range(0, count, 8):
        with torch.autocast("cpu", torch.bfloat16):
            total += float(model(x[i:i + 8], y[i:i + 8])) * len(x[i:i + 8])
    model.train()
    return total / count


def save(model, folder, dtype=torch.float32):
    from safetensors.torch import save_file
    c = dict(CONFIG)
    theta = c.pop("rope_theta")
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", attention_bias=False,
                  mlp_bias=False, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, rope_theta=theta,
                  attention_dropout=0.0, dtype="float32", torch_dtype="float32", **c)
    state = {n: p.detach().to(dtype).clone() for n, p in model.named_parameters()}
    save_file(state, str(folder / "model.safetensors.part"), metadata=dict(format="pt"))
    os.replace(folder / "model.safetensors.part", folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(dict(bos_token_id=0, eos_token_id=0), indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=84)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--rows", type=int, default=32, help="windows in a step")
    parser.add_argument("--micro", type=int, default=8, help="windows at a time")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--lr", type=float, default=3e-3, help="of AdamW")
    parser.add_argument("--muon-lr", type=float, default=0.02, help="of Muon, for the matrices; 0: AdamW for all")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--layers", type=int, default=CONFIG["num_hidden_layers"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--every", type=int, default=25, help="steps between two lines of the log")
    args = parser.parse_args()
    CONFIG["num_hidden_layers"] = args.layers
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    folder = args.out / "model"
    folder.mkdir(parents=True, exist_ok=True)
    log = open(args.out / "train.log", "a" if args.resume else "w", encoding="utf-8")

    def say(line):
        print(line, flush=True)
        print(line, file=log, flush=True)

    train_text, val_text = ((args.data / f"{n}.txt").read_text(encoding="utf-8") for n in ("train", "val"))
    tokenizer = make_tokenizer(train_text, folder)
    train, val = encode(tokenizer, train_text), encode(tokenizer, val_text)
    model = Model(CONFIG, args.dropout)
    size = sum(p.numel() for p in model.parameters())
    step, tokens, elapsed, state = 0, 0, 0.0, None
    if args.resume:
        state = torch.load(args.out / "checkpoint.pt")
        step, tokens, elapsed = state["step"], state["tokens"], state["minutes"] * 60
        model.load_state_dict(state["model"])
        say(f"resumed from step {step}")
    else:
        say("rustbook: a Llama-style model on Rust's documentation; the log of train.py")
    shown = {k: v for k, v in vars(args).items() if k not in ("data", "out", "resume")}
    say(f"torch {torch.__version__}; " + ", ".join(f"{k} {v}" for k, v in shown.items()))
    say(f"{size} parameters; {len(train)} tokens to train on ({len(train_text) / len(train):.2f} characters each), "
        f"{len(val)} held out")
    forward = torch.compile(model) if args.compile else model
    made = optimizers(model, args)
    if state and "optimizers" in state:
        for optimizer, saved in zip(made, state["optimizers"]):
            optimizer.load_state_dict(saved)
    batches = Batches(train, args.context, args.rows, 1 + step)
    losses, for_rate, warm_from = [], 0, step
    begun = last_log = last_save = time.monotonic()
    begun -= elapsed
    while True:
        spent = (time.monotonic() - begun) / (args.minutes * 60)
        # Warm-up by steps, then down to zero in a straight line by the clock.
        scale = min(1.0, (step - warm_from + 1) / 60) * max(0.0, 1.0 - spent)
        done = spent >= 1.0
        if step % args.every == 0 or done or step == warm_from:
            now = time.monotonic()
            rate = for_rate / max(now - last_log, 1e-9)
            train_loss = f"{sum(losses) / len(losses):.4f}" if losses else "-"
            often = step % (4 * args.every) and step != warm_from and not done
            held = "-" if often else f"{validate(forward, val, args.context):.4f}"
            say(f"step {step:5d}  min {(now - begun) / 60:5.1f}  tokens {tokens / 1e6:6.2f} M  "
                f"epoch {tokens / len(train):5.2f}  lr x{scale:.3f}  "
                f"train {train_loss}  val {held}  {rate:.0f} tokens/s")
            losses, for_rate, last_log = [], 0, time.monotonic()
        if done:
            break
        if time.monotonic() - last_save > 240:
            save(model, folder)
            torch.save(dict(model=model.state_dict(), optimizers=[o.state_dict() for o in made], step=step,
                            tokens=tokens, minutes=(time.monotonic() - begun) / 60), args.out / "checkpoint.part")
            os.replace(args.out / "checkpoint.part", args.out / "checkpoint.pt")
            last_save = time.monotonic()
        for optimizer in made:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * scale
        x, y = batches.next()
        parts = range(0, args.rows, args.micro)
        total = 0.0
        for i in parts:
            with torch.autocast("cpu", torch.bfloat16):
                loss = forward(x[i:i + args.micro], y[i:i + args.micro]) / len(parts)
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in made:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(total)
        step += 1
        tokens += x.numel()
        for_rate += x.numel()
    save(model, folder)
    say(f"done: {step} steps, {tokens} tokens")


if __name__ == "__main__":
    main()
