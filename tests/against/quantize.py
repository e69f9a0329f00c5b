"""GGUF files that `thalweg quantize` writes, loaded by llama.cpp, against transformers on the folders they came from.

    cargo build && python tests/against/quantize.py [--only NAME] [--keep DIR]

    transformers 5.23.0, torch, tokenizers, gguf 0.19.0, llama-cpp-python 0.3.36

Makes small random models of every architecture, with rows of whole blocks, and for each of f32, f16, q8_0 and q4_0 a
file. For each file it prints the largest difference of all logits (of the embedding, for BERT) in parts of the largest
logit, of how many texts the tokens agree, and what gguf.GGUFReader counts in it. f32 must agree within 2e-3 (BERT
within 5e-3: llama.cpp computes its GELU with tanh, from a table in half precision), f16 within 1e-2. Weights are larger
than usual, so that what is wrong shows; that makes the difference of q8_0 and q4_0, whose products round the
activations too, large: it is only told, and every tensor of these files must be what gguf.quants.quantize makes of the
f32 file's, byte for byte. The exit status is 1 where something disagrees.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import gguf
import llama_cpp
import numpy
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target" / "debug" / "thalweg"
CORPUS = [line for path in ("README.md", "ARCHITECTURE.md") for line in (ROOT / path).read_text().splitlines()]
PROMPT = "The river carries the water to the sea, and the kernel reads 1234 rows of it."
TEXTS = [
    PROMPT,
    "  two spaces, a tab\tand\n\na new line\n",
    "don't WE'LL they've 3.14159 1000000 x=y+z; fn main() {}",
    "naïve größe 川の水 🦙 \u00a0end",
    "Hello <|unknown|> World!?",
]
TYPES = {"f32": 2e-3, "f16": 1e-2, "q8_0": None, "q4_0": None}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1))


# ------------------------------------------------------------------------------------------------------ tokenizers


def byte_level(pre, specials, first=None, ignore_merges=False, normalizer=None):
    """Byte-level BPE with that pre-tokenizer, trained on the project's own pages."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return begin_with(tokenizer, first)


def begin_with(tokenizer, first):
    if first:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", pair=f"{first} $A {first} $B", special_tokens=[(first, tokenizer.token_to_id(first))]
        )
    return tokenizer


def split(regex):
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), byte])


LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")


def gpt_2():
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"])


def llama_3():
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    return byte_level(split(LLAMA_3), specials, specials[0], ignore_merges=True)


def qwen_2():
    return byte_level(split(QWEN_2), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizer=normalizers.NFC())


def smollm():
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pre = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte])
    return byte_level(pre, ["<|endoftext|>"])


def sentence_piece(specials, unknown, first, prefix):
    """BPE with byte fallback as Llama 2 (with a space in front) and Gemma (without) have it."""
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    trained = Tokenizer(models.BPE(unk_token=unknown))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # words do not cross the sign for spaces, as in SentencePiece
    trained.pre_tokenizer = pre_tokenizers.Split(Regex("▁"), "merged_with_next")
    trained.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=900, special_tokens=specials + bytes_, show_progress=False)
    )
    plain = json.loads(trained.to_str())
    vocab = plain["model"]["vocab"]
    # every pair that makes a token is a merge, at the place of the token's first one: as made of SentencePiece's scores
    ranks = {}
    for rank, (a, b) in enumerate(plain["model"]["merges"]):
        ranks.setdefault(a + b, rank)
    merges = []
    for token in sorted(ranks, key=ranks.get):
        pairs = [(token[:i], token[i:]) for i in range(1, len(token))]
        merges += [pair for pair in pairs if pair[0] in vocab and pair[1] in vocab]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prefix else replace
    end = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *end])
    tokenizer.add_special_tokens(specials)
    return begin_with(tokenizer, first)


def llama_2():
    return sentence_piece(["<unk>", "<s>", "</s>"], "<unk>", "<s>", True)


def phi_3():
    # llama.cpp looks for these by name where the model's name has phi-3 or phi3 in it
    return sentence_piece(["<unk>", "<s>", "</s>", "<|endoftext|>", "<|end|>"], "<unk>", None, True)


def gemma():
    return sentence_piece(["<pad>", "<eos>", "<bos>", "<unk>"], "<unk>", "<bos>", False)


def word_piece():
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=700, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


# ---------------------------------------------------------------------------------------------------------- models

WIDE = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2)
WIDE |= dict(max_position_embeddings=256)


def theta(value, **more):
    return {"rope_theta": value, "rope_type": "default", **more}


LLAMA_3_SCALING = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
LONG = dict(rope_type="longrope", original_max_position_embeddings=256, short_factor=[1.0 + i / 32 for i in range(16)])
LONG |= dict(long_factor=[2.0 + i for i in range(16)])
GEMMA = dict(WIDE, head_dim=64, query_pre_attn_scalar=64, hidden_activation="gelu_pytorch_tanh", sliding_window=8)

LONG_PHI = dict(WIDE, max_position_embeddings=1024, original_max_position_embeddings=256, pad_token_id=0)
LONG_PHI |= dict(rope_parameters=theta(1000.0) | LONG)

# name, tokenizer, special tokens by role, config
MODELS = [
    ("llama_2", llama_2, dict(bos="<s>", eos="</s>", unk="<unk>"), "llama", dict(WIDE, rope_parameters=theta(1000.0))),
    (
        "llama_3",
        llama_3,
        dict(bos="<|begin_of_text|>", eos="<|end_of_text|>"),
        "llama",
        dict(WIDE, head_dim=64, tie_word_embeddings=True, rope_parameters=theta(5000.0) | LLAMA_3_SCALING),
    ),
    (
        "llama_bias",
        smollm,
        dict(bos="<|endoftext|>", eos="<|endoftext|>"),
        "llama",
        dict(WIDE, attention_bias=True, mlp_bias=True, rope_parameters=theta(1000.0, rope_type="linear", factor=2.0)),
    ),
    ("llama_yarn", gpt_2, dict(eos="<|endoftext|>"), "llama", dict(WIDE, rope_parameters=theta(1000.0) | YARN)),
    (
        "llama_yarn_factor",
        gpt_2,
        dict(eos="<|endoftext|>"),
        "llama",
        dict(WIDE, rope_parameters=theta(1000.0) | YARN | dict(attention_factor=0.8, beta_fast=16.0)),
    ),
    (
        "mistral",
        llama_2,
        dict(bos="<s>", eos="</s>", unk="<unk>"),
        "mistral",
        dict(WIDE, head_dim=64, sliding_window=None, rope_parameters=theta(1000.0)),
    ),
    (
        "qwen2",
        qwen_2,
        dict(eos="<|im_end|>", pad="<|endoftext|>"),
        "qwen2",
        dict(WIDE, tie_word_embeddings=True, rope_parameters=theta(1000.0)),
    ),
    (
        "qwen3",
        qwen_2,
        dict(eos="<|im_end|>", pad="<|endoftext|>"),
        "qwen3",
        dict(WIDE, head_dim=64, rope_parameters=theta(1000.0)),
    ),
    ("gemma2", gemma, dict(bos="<bos>", eos="<eos>", unk="<unk>", pad="<pad>"), "gemma2",
     dict(GEMMA, attn_logit_softcapping=2.0, final_logit_softcapping=3.0, rope_parameters=theta(1000.0))),
    ("gemma3", gemma, dict(bos="<bos>", eos="<eos>", unk="<unk>", pad="<pad>"), "gemma3_text",
     dict(GEMMA, num_hidden_layers=4, layer_types=["sliding_attention", "full_attention"] * 2,
          rope_parameters={"full_attention": theta(1000.0, rope_type="linear", factor=4.0),
                           "sliding_attention": theta(50.0)})),
    ("phi3", phi_3, dict(bos="<s>", eos="<|endoftext|>", unk="<unk>"), "phi3",
     dict(WIDE, rope_parameters=theta(1000.0, partial_rotary_factor=0.75), original_max_position_embeddings=256,
          pad_token_id=0)),
    ("phi3_short", phi_3, dict(bos="<s>", eos="<|endoftext|>", unk="<unk>"), "phi3", LONG_PHI),
    # llama.cpp takes the long factors where its room is longer than the original length, transformers where the text is
    ("phi3_long", phi_3, dict(bos="<s>", eos="<|endoftext|>", unk="<unk>"), "phi3", LONG_PHI),
    ("gpt2", gpt_2, dict(bos="<|endoftext|>", eos="<|endoftext|>"), "gpt2",
     dict(n_embd=128, n_head=4, n_layer=3, n_inner=192, n_positions=256)),
    ("bert", word_piece, dict(cls="[CLS]", sep="[SEP]", unk="[UNK]", pad="[PAD]", mask="[MASK]"), "bert",
     dict(hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
          max_position_embeddings=256)),
]  # fmt: skip


def build(folder, make_tokenizer, roles, model_type, options):
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {f"{role}_token": token for role, token in roles.items()}
    settings["tokenizer_class"] = "BertTokenizer" if model_type == "bert" else "PreTrainedTokenizerFast"
    write_json(folder / "tokenizer_config.json", settings)
    ids = {f"{role}_token_id": tokenizer.token_to_id(token) for role, token in roles.items()}
    ids = {key: ids.get(key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    # five rows that no token has
    vocab = tokenizer.get_vocab_size() + 5
    config = transformers.AutoConfig.for_model(model_type, **{**ids, **options, "vocab_size": vocab})
    kind = transformers.AutoModel if model_type == "bert" else transformers.AutoModelForCausalLM
    net = kind.from_config(config, attn_implementation="eager").float()
    torch.manual_seed(20261126)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            shape = parameter.shape
            if len(shape) == 1:
                around = 0.0 if name.endswith("bias") or model_type.startswith("gemma") else 1.0
                parameter.copy_(around + 0.2 * torch.randn(shape))
            else:
                wide = any(part in name for part in ("embed", "wte", "wpe", "lm_head"))
                parameter.copy_(torch.randn(shape) * (0.3 if wide else 1.3 / shape[-1] ** 0.5))
    net.save_pretrained(folder)
    return net.eval(), tokenizer


# ------------------------------------------------------------------------------------------------------ comparison


def load(path, room=256, **more):
    # keys and values in f32
    exact = dict(type_k=0, type_v=0, flash_attn=False)
    return llama_cpp.Llama(str(path), verbose=False, n_ctx=room, n_batch=room, **exact, **more)


def logits(path, ids):
    llama = load(path, room=256 if len(ids) <= 256 else 512, logits_all=True)
    llama.eval(ids)
    return numpy.array(llama.scores[: len(ids)])


def embedding(path):
    vector = numpy.array(load(path, embedding=True).embed(PROMPT, normalize=True))
    return vector / numpy.linalg.norm(vector)


def truth(net, ids, model_type):
    with torch.no_grad():
        if model_type != "bert":
            return net(torch.tensor([ids])).logits[0].numpy()
        mean = net(torch.tensor([ids])).last_hidden_state[0].mean(0).numpy()
        return mean / numpy.linalg.norm(mean)


def tokens_agree(path, tokenizer):
    """The texts whose tokens differ."""
    llama = load(path, vocab_only=True)
    different = []
    for text in TEXTS:
        # what llama-cpp-python calls add_bos are all tokens that a text gets
        found = llama.tokenize(text.encode(), add_bos=True, special=False)
        expected = tokenizer.encode(text, add_special_tokens=True).ids
        if found != expected:
            different.append((text, expected, found))
    return different


def different_tensors(reader, exact):
    """The tensors that are not what the gguf package makes of the f32 file's."""
    names = []
    for tensor in reader.tensors:
        data = numpy.ascontiguousarray(tensor.data)
        same = data.tobytes() == gguf.quants.quantize(exact[tensor.name], tensor.tensor_type).tobytes()
        names += [] if same else [tensor.name]
    return names


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for models and files, which stay")
    arguments = parser.parse_args()
    place = arguments.keep or pathlib.Path(tempfile.mkdtemp())
    failed = False
    for name, make_tokenizer, roles, model_type, options in MODELS:
        if arguments.only and arguments.only != name:
            continue
        folder = place / name
        folder.mkdir(parents=True, exist_ok=True)
        net, tokenizer = build(folder, make_tokenizer, roles, model_type, options)
        ids = tokenizer.encode(PROMPT * 11 if name == "phi3_long" else PROMPT).ids
        assert (len(ids) > 256) == (name == "phi3_long")
        expected = truth(net, ids, model_type)
        for kind, bound in TYPES.items():
            path = place / f"{name}.{kind}.gguf"
            command = [BINARY, "quantize", "--model", folder, "--to", kind, path]
            written = subprocess.run(command, capture_output=True, text=True)
            if written.returncode:
                print(f"{name} {kind}: FAILED: {written.stderr.strip()}")
                failed = True
                continue
            reader = gguf.GGUFReader(path)
            if kind == "f32":
                exact = {tensor.name: numpy.array(tensor.data) for tensor in reader.tensors}
            others = different_tensors(reader, exact)
            found = embedding(path) if model_type == "bert" else logits(path, ids)
            error = float(numpy.abs(found - expected).max() / numpy.abs(expected).max())
            bound = 5e-3 if (bound, model_type) == (2e-3, "bert") else bound
            # not a number is wrong in any type
            wrong = not error <= (numpy.inf if bound is None else bound)
            different = tokens_agree(path, tokenizer)
            failed |= wrong or bool(different) or bool(others)
            print(
                f"{name} {kind}: {error:.1e}{' WRONG' if wrong else ''}, tokens of {len(TEXTS) - len(different)} of "
                f"{len(TEXTS)} texts, {len(reader.tensors) - len(others)} of {len(reader.tensors)} tensors, "
                f"{len(reader.fields)} keys",
                flush=True,
            )
            for text, expected_ids, found_ids in different if kind == "f32" else []:
                print(f"    {text!r}: expected {expected_ids}, found {found_ids}")
    if not arguments.keep:
        shutil.rmtree(place)
    sys.exit(failed)


if __name__ == "__main__":
    main()
