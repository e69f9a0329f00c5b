"""`thalweg stream attribute` and `stream measure` against the same computed in PyTorch with hooks, on the decoders of
tests/fixtures/decoders.

    cargo build && python tests/against/attribution.py [--write]     --write: what PyTorch says, into tests/fixtures/attribution.json

    transformers 5.23.0, torch

Each head's term is its slice of what enters W_O through its columns of W_O; terms are carried through the final norm with the
norm's own statistics, and multiplied by a row of the unembedding. Every part has to agree within 1e-4 of the largest, every
measure within 1e-4 of itself. The exit status is 1 where something disagrees.
"""

import json
import pathlib
import subprocess
import sys

import numpy
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
IDS = [3, 14, 15, 9, 2, 6, 5, 35]


def thalweg(command, folder, *arguments):
    ids = " ".join(map(str, IDS))
    line = [ROOT / "target/debug/thalweg", "stream", command, "--model", folder, "--ids", ids, "--dtype", "f32", "--json"]
    return json.loads(subprocess.run([*line, *arguments], check=True, capture_output=True, text=True).stdout)


def layers(model):
    """(name of the blocks, path to W_O, path to the FFN, final norm) by family."""
    for blocks, o, mlp, norm in [
        ("transformer.h", "attn.c_proj", "mlp", "transformer.ln_f"),
        ("model.layers", "self_attn.o_proj", "mlp", "model.norm"),
        ("gpt_neox.layers", "attention.dense", "mlp", "gpt_neox.final_layer_norm"),
    ]:
        try:
            return model.get_submodule(blocks), o, mlp, model.get_submodule(norm)
        except AttributeError:
            continue
    raise SystemExit(f"unknown family {type(model)}")


def hooked(model):
    """What entered W_O and what the FFN gave, by block; what entered the final norm; all for IDS."""
    blocks, o, mlp, norm = layers(model)
    seen = {}

    def keep(name, entering):
        def hook(_module, inputs, output):
            seen[name] = (inputs[0] if entering else output).detach()[0].double()

        return hook

    handles = [norm.register_forward_hook(keep("final", True))]
    for l, block in enumerate(blocks):
        handles.append(block.get_submodule(o).register_forward_hook(keep(("z", l), True)))
        handles.append(block.get_submodule(o).register_forward_hook(keep(("attn", l), False)))
        handles.append(block.get_submodule(mlp).register_forward_hook(keep(("mlp", l), False)))
    with torch.no_grad():
        out = model(torch.tensor([IDS]), output_hidden_states=True, output_attentions=True)
    for handle in handles:
        handle.remove()
    return blocks, o, norm, seen, out


def weight_of(module):
    w = module.weight.detach().double()
    return w.T if type(module).__name__ == "Conv1D" else w


def attribution(model, position, target, against):
    """{part: value} of heads, biases and FFNs."""
    blocks, o, norm, seen, _out = hooked(model)
    x = seen["final"][position]
    rms = not hasattr(norm, "bias") or norm.bias is None
    eps = getattr(norm, "eps", None) or getattr(norm, "variance_epsilon")
    centre = (lambda c: c) if rms else (lambda c: c - c.mean())
    sigma = torch.sqrt((centre(x) ** 2).mean() + eps)
    unembed = model.get_output_embeddings().weight.detach().double()
    direction = unembed[target] - (unembed[against] if against is not None else 0)
    value = lambda c: float((norm.weight.detach().double() * centre(c) / sigma) @ direction)
    heads = model.config.num_attention_heads
    parts = {}
    for l, block in enumerate(blocks):
        w = weight_of(block.get_submodule(o))
        z = seen["z", l][position].reshape(heads, -1)
        size = z.shape[1]
        for h in range(heads):
            parts[f"L{l}H{h}"] = value(w[:, h * size : (h + 1) * size] @ z[h])
        bias = block.get_submodule(o).bias
        if bias is not None:
            parts[f"{l}_attn_bias"] = value(bias.detach().double())
        parts[f"{l}_mlp_out"] = value(seen["mlp", l][position])
    if not rms:
        parts["ln_final_bias"] = float(norm.bias.detach().double() @ direction)
    return parts


def rank_residual(x):
    norm = lambda m: (abs(m).sum(0).max() * abs(m).sum(1).max()) ** 0.5
    return norm(x - x.mean(0)) / norm(x)


def measures(model):
    """Of pre-norm models: the same names as the JSON."""
    _blocks, _o, _norm, seen, out = hooked(model)
    # the last of hidden_states is behind the final norm
    streams = [h[0].double().numpy() for h in out.hidden_states[:-1]] + [seen["final"].numpy()]
    cosine = lambda x, y: (x * y).sum(1) / numpy.linalg.norm(x, axis=1) / numpy.linalg.norm(y, axis=1)
    found = {"blocks": [], "cka": []}
    rollout = numpy.eye(len(IDS))
    parallel = getattr(model.config, "use_parallel_residual", False)
    for l, pattern in enumerate(out.attentions):
        a = pattern[0].double().numpy()
        mixed = (a.mean(0) + numpy.eye(len(IDS))) / 2
        rollout = (mixed / mixed.sum(1, keepdims=True)) @ rollout
        attn, mlp = seen["attn", l].numpy(), seen["mlp", l].numpy()
        before = [streams[l], streams[l] + attn]  # a parallel block's FFN is added to the same sum
        block = {"influence": 1 - cosine(streams[l], streams[l + 1]).mean(), "rank_residual": rank_residual(streams[l + 1])}
        for name, part, stream in [("attention", attn, before[0]), ("mlp", mlp, before[1])]:
            norms = numpy.linalg.norm(part, axis=1)
            block[name] = {
                "norm": norms.mean(),
                "ratio": (norms / numpy.linalg.norm(stream, axis=1)).mean(),
                "cosine": cosine(part, stream).mean(),
            }
        block["sinks"] = a[:, 1:, 0].mean(1)
        block["largest"], block["median"] = abs(streams[l + 1]).max(), numpy.sort(abs(streams[l + 1]).ravel())[streams[0].size // 2]
        found["blocks"].append(block)
    centred = [x - x.mean(0) for x in streams]
    frobenius = numpy.linalg.norm
    found["cka"] = [
        [frobenius(y.T @ x) ** 2 / frobenius(x.T @ x) / frobenius(y.T @ y) for y in centred] for x in centred
    ]
    found["rollout"] = rollout
    return found, parallel


def differences(name, ours, theirs):
    """Leaves that disagree."""
    if isinstance(theirs, dict):
        return [d for key in theirs for d in differences(f"{name}.{key}", ours[key], theirs[key])]
    if isinstance(theirs, (list, numpy.ndarray)) and numpy.ndim(theirs) > 0 or isinstance(theirs, list):
        if len(ours) != len(theirs):
            return [f"{name}: {len(ours)} instead of {len(theirs)}"]
        return [d for i, (a, b) in enumerate(zip(ours, theirs)) for d in differences(f"{name}[{i}]", a, b)]
    theirs = float(theirs)
    return [] if abs(ours - theirs) <= 1e-4 * max(abs(theirs), 1e-2) else [f"{name}: {ours} instead of {theirs}"]


def main():
    wrong, said = [], {}
    for name in ["gpt2_odd", "gpt2_untied", "llama_gqa", "llama_mqa_bias", "qwen2_bias", "qwen3_norm", "neox_parallel", "neox_serial"]:
        folder = ROOT / "tests/fixtures/decoders" / name
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        model.eval()
        worst = 0.0
        for position, target, against in [(7, 5, None), (3, 8, 2), (0, 1, 0)]:
            theirs = attribution(model, position, target, against)
            said.setdefault(name, []).append(
                {"position": position, "target": target, "against": against, "parts": theirs}
            )
            question = ["--position", str(position), "--target", str(target)]
            question += ["--against", str(against)] if against is not None else []
            found = thalweg("attribute", folder, *question)
            ours = {part["name"]: part["value"] for part in found["parts"]}
            missing = set(theirs) - set(ours)
            others = set(ours) - set(theirs) - {"embed", "pos_embed"}
            if missing or others:
                wrong.append(f"{name}: parts {missing} are missing, {others} are more")
                continue
            largest = max(abs(x) for x in theirs.values())
            error, part = max((abs(ours[part] - theirs[part]) / largest, part) for part in theirs)
            worst = max(worst, error)
            if not error <= 1e-4:
                wrong.append(f"{name} {question}: {part} is {ours[part]} instead of {theirs[part]}")
        theirs, _ = measures(model)
        off = differences(name, thalweg("measure", folder), theirs)
        wrong += off
        print(f"{name:16} parts within {worst:.1e} of the largest, {len(off)} measures off")
    if "--write" in sys.argv[1:]:
        text = json.dumps({"ids": IDS, "models": said}, indent=1)
        (ROOT / "tests/fixtures/attribution.json").write_text(text + "\n")
    print("\n".join(wrong))
    return 1 if wrong else 0


sys.exit(main())
