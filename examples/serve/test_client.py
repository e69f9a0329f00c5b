"""Drives the server with OpenAI's own client library: `python examples/serve/test_client.py target/debug/thalweg-serve`

    pip install openai==3.54.0
"""

import base64
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import openai

FIXTURES = Path(__file__).resolve().parents[2] / "tests/fixtures"
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'robot' %}{{ raise_exception('no robots') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def models(folder):
    """A small language model with a template, whose texts do not end by themselves, and an encoder."""
    talker = folder / "talker"
    shutil.copytree(FIXTURES / "decoders/llama_gqa", talker)
    (talker / "chat_template.jinja").write_text(TEMPLATE)
    (talker / "generation_config.json").write_text('{"bos_token_id": 1}')
    return talker, FIXTURES / "models/bert_odd"


def published():
    """Prompt ids, and 64 greedy tokens' text by Hugging Face."""
    data = (FIXTURES / "decoders/llama_gqa/expected.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    start, end = header["ids"]["data_offsets"]
    ids = struct.unpack(f"<{(end - start) // 4}i", data[8 + size + start : 8 + size + end])
    return list(ids), header["__metadata__"]["greedy_text"]


def refused(status, call, part=""):
    try:
        call()
    except openai.APIStatusError as error:
        assert error.status_code == status, (error.status_code, status, error)
        assert part in str(error), (part, error)
        assert error.body["message"] and error.body["type"], error.body
        return
    raise AssertionError(f"expected status {status}")


def main(binary):
    with tempfile.TemporaryDirectory() as folder:
        talker, encoder = models(Path(folder))
        command = [binary, "--model", str(talker), "--embed-model", str(encoder), "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            url = server.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:"), url
            check(openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=300), url)
        finally:
            server.kill()
            server.wait()
    print("ok")


def check(client, url):
    assert {model.id for model in client.models.list()} == {"talker", "bert_odd"}

    # completions: ids, a text, several, as Hugging Face continues them
    ids, text = published()
    greedy = {"model": "talker", "temperature": 0, "max_tokens": 64}
    done = client.completions.create(prompt=ids, **greedy)
    assert done.choices[0].text == text, (done.choices[0].text, text)
    assert done.choices[0].finish_reason == "length"
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (len(ids), 64)
    stop = text[20:23]
    stopped = client.completions.create(prompt=ids, stop=stop, **greedy)
    assert stopped.choices[0].text == text[: text.index(stop)] and stopped.choices[0].finish_reason == "stop"
    both = client.completions.create(prompt=["the river", "water"], **greedy)
    alone = [client.completions.create(prompt=prompt, **greedy).choices[0].text for prompt in ["the river", "water"]]
    assert [choice.text for choice in both.choices] == alone and [choice.index for choice in both.choices] == [0, 1]
    draws = [client.completions.create(model="talker", prompt=ids, seed=seed).choices[0].text for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]

    # several clients at a time get what each gets alone
    def chat(i, **more):
        question = f"river {i} " * (3 + 40 * i)
        messages = [{"role": "developer", "content": "Be wet."}, {"role": "user", "content": question}]
        return client.chat.completions.create(model="talker", messages=messages, temperature=0, max_tokens=48, **more)

    count = 4
    alone = [chat(i).choices[0].message.content for i in range(count)]
    assert len(set(alone)) > 1, alone
    together, usages, most = [""] * count, [None] * count, [0]

    def stream(i):
        reason = None
        for chunk in chat(i, stream=True, stream_options={"include_usage": True}):
            usages[i] = chunk.usage
            for choice in chunk.choices:
                together[i] += choice.delta.content or ""
                reason = choice.finish_reason or reason
            if i == 0:
                most[0] = max(most[0], active(url))
        assert reason == "length", reason

    threads = [threading.Thread(target=stream, args=(i,)) for i in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert together == alone, (together, alone)
    assert all(usage.completion_tokens == 48 for usage in usages), usages
    assert most[0] >= 2, "they were never there at the same time"

    # a client that goes away takes its session along
    messages = [{"role": "user", "content": "the river"}]
    endless = client.chat.completions.create(model="talker", messages=messages, stream=True, temperature=0)
    for _, _ in zip(range(3), endless):
        pass
    assert active(url) == 1
    endless.close()
    deadline = time.monotonic() + 30
    while active(url):
        assert time.monotonic() < deadline, "the session is still there"
        time.sleep(0.05)

    # vectors, as base64 (what the client asks for) and as floats
    vectors = client.embeddings.create(model="bert_odd", input=["to be", "or not"])
    floats = client.embeddings.create(model="bert_odd", input="or not", encoding_format="float")
    assert len(vectors.data) == 2 and len(vectors.data[0].embedding) == 30 and vectors.usage.prompt_tokens > 2
    assert vectors.data[1].embedding != vectors.data[0].embedding
    near = zip(vectors.data[1].embedding, floats.data[0].embedding)
    assert all(abs(a - b) < 1e-6 for a, b in near)
    raw = client.embeddings.with_raw_response.create(model="bert_odd", input="or not", encoding_format="base64")
    assert len(base64.b64decode(json.loads(raw.text)["data"][0]["embedding"])) == 4 * 30

    # what is refused
    user = [{"role": "user", "content": "x"}]
    create = client.chat.completions.create
    refused(404, lambda: create(model="other", messages=user), "other")
    refused(400, lambda: create(model="talker", messages=user, n=2), "n")
    refused(400, lambda: create(model="talker", messages=user, temperature=-1), "temperature")
    refused(400, lambda: create(model="talker", messages=user, stop=""), "stop")
    refused(400, lambda: create(model="talker", messages=[{"role": "robot", "content": "x"}]), "no robots")
    refused(400, lambda: create(model="talker", messages="x"), "request")
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    refused(400, lambda: create(model="talker", messages=image), "text")
    refused(400, lambda: client.completions.create(model="talker", prompt=[1] * 3000), "2048")
    refused(400, lambda: client.completions.create(model="talker", prompt=[10**6]), "vocabulary")
    refused(400, lambda: client.embeddings.create(model="bert_odd", input="x", dimensions=5), "30")
    refused(404, lambda: client.embeddings.create(model="talker", input="x"), "talker")
    refused(404, lambda: client.files.list())


def active(url):
    with urllib.request.urlopen(url.removesuffix("/v1") + "/sessions") as answer:
        return json.load(answer)["active"]


if __name__ == "__main__":
    main(sys.argv[1])
