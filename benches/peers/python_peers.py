"""Sentences into vectors by engines that are called from Python: `python_peers.py onnxruntime|sentence-transformers MODEL`.

Requests and answers are those of common/src/lib.rs. `run.py` starts this and says what is needed.
"""

import json
import os
import pathlib
import sys
import time

LONGEST = 256
THREADS = int(os.environ["OMP_NUM_THREADS"])


def sentence_transformers(folder):
    import sentence_transformers as package
    import torch

    torch.set_num_threads(THREADS)
    model = package.SentenceTransformer(str(folder), device="cpu")

    def embed(texts, together):
        return model.encode(texts, batch_size=together, normalize_embeddings=True, show_progress_bar=False)

    return f"sentence-transformers {package.__version__} (torch {torch.__version__}, CPU)", embed


def onnxruntime(folder):
    import numpy
    import onnxruntime as package
    from tokenizers import Tokenizer

    path = folder.parent / "model.onnx"
    if not path.exists():
        export(folder, path)
    options = package.SessionOptions()
    options.intra_op_num_threads = THREADS
    # threads that wait by turning around would take time from the others
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = package.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.no_padding()

    def embed(texts, together):
        encodings = tokenizer.encode_batch(texts)
        order = sorted(range(len(texts)), key=lambda place: len(encodings[place]))
        vectors = [None] * len(texts)
        for first in range(0, len(order), together):
            places = order[first : first + together]
            longest = max(len(encodings[place]) for place in places)
            ids = numpy.zeros((len(places), longest), numpy.int64)
            mask = numpy.zeros_like(ids)
            for row, place in enumerate(places):
                own = encodings[place].ids
                ids[row, : len(own)] = own
                mask[row, : len(own)] = 1
            (states,) = session.run(None, {"ids": ids, "mask": mask})
            means = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
            means /= numpy.linalg.norm(means, axis=1, keepdims=True)
            for place, vector in zip(places, means):
                vectors[place] = vector
        return vectors

    return f"onnxruntime {package.__version__}, CPU", embed


def export(folder, path):
    import torch
    import transformers

    class States(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = transformers.AutoModel.from_pretrained(
                folder, add_pooling_layer=False, attn_implementation="eager"
            )

        def forward(self, ids, mask):
            return self.bert(input_ids=ids, attention_mask=mask).last_hidden_state

    # with padding, so that the mask is not found to be of no use
    ids = torch.ones(3, 16, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    sizes = {0: torch.export.Dim("texts", min=1, max=512), 1: torch.export.Dim("tokens", min=2, max=512)}
    program = torch.onnx.export(
        States().eval(),
        (ids, mask),
        input_names=["ids", "mask"],
        dynamic_shapes={"ids": sizes, "mask": sizes},
        dynamo=True,
        verbose=False,
    )
    program.save(path)


def main():
    name, folder = sys.argv[1:]
    # what libraries print must not come between the answers
    answers, sys.stdout = sys.stdout, sys.stderr
    device, embed = {"onnxruntime": onnxruntime, "sentence-transformers": sentence_transformers}[name](pathlib.Path(folder))
    print(json.dumps({"device": device}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)["embed"]
        start = time.perf_counter()
        vectors = embed(request["texts"], request["together"])
        answer = {"seconds": time.perf_counter() - start}
        if request["vectors"]:
            answer["vectors"] = [[float(value) for value in vector] for vector in vectors]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
