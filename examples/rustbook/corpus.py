#!/usr/bin/env python3
"""Makes the training text of rustbook: The Rust Programming Language and the standard library's documentation, as
rustup installs them (component rust-docs), out of HTML into plain text with Markdown's marks.

    corpus.py OUT_DIR [HTML_DIR]

writes OUT_DIR/train.txt and OUT_DIR/val.txt; HTML_DIR is `$(rustc --print sysroot)/share/doc/rust/html` by default.
"""

import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

END = "<|endoftext|>"
BOOK_COPIES = 3
VAL_CHAPTERS = ("ch06-03-if-let", "ch09-03-to-panic-or-not-to-panic")
FIRST = ("primitive.i32", "primitive.u32", "primitive.f64")
VAL_EVERY = 40  # one page of the library's in so many is held out

SKIPPED_CLASSES = {"doc-anchor", "anchor", "src", "since", "rightside", "test-arrow", "tooltip", "boring",
                   "out-of-band", "item-info", "stab", "hideme", "fa", "buttons", "rustdoc-breadcrumbs", "sub-heading",
                   "item-name"}
SKIPPED_TAGS = {"button", "nav", "script", "style", "noscript", "svg", "rustdoc-toolbar"}
BLOCKS = {"p", "ul", "ol", "li", "table", "tr", "blockquote", "section", "details", "summary", "div", "h1", "h2", "h3",
          "h4", "h5", "h6", "pre", "dl", "dt", "dd", "header"}
VOID = {"br", "img", "input", "meta", "link", "hr", "wbr"}


class Page(HTMLParser):
    """Collects blocks (kind, text): heading, signature, text, code."""

    def __init__(self, is_book):
        super().__init__(convert_charrefs=True)
        self.is_book = is_book
        self.blocks = []
        self.buffer = []
        self.kind = "text"
        self.prefix = ""
        self.language = ""
        self.skipping = None  # (tag, depth)
        self.docblock = 0  # how many divs deep inside a docblock
        self.in_main = False
        self.signature = False
        self.pre = False

    def wanted(self):
        return self.in_main and (self.is_book or self.docblock or self.signature or self.kind == "title" or self.pre)

    def flush(self):
        text = "".join(self.buffer)
        self.buffer = []
        if self.kind == "code":
            text = text.strip("\n").rstrip()
        else:
            text = re.sub(r"\s+", " ", text).strip()
        if text and text != "`":
            self.blocks.append((self.kind, self.prefix + text if self.kind == "text" else text))
            self.prefix = ""

    def handle_starttag(self, tag, attributes):
        if self.skipping:
            if tag == self.skipping[0]:
                self.skipping = (tag, self.skipping[1] + 1)
            return
        classes = set((dict(attributes).get("class") or "").split())
        if tag not in VOID and (tag in SKIPPED_TAGS or classes & SKIPPED_CLASSES):
            self.skipping = (tag, 1)
            return
        if tag == "main":
            self.in_main = True
        if tag == "div":
            if self.docblock:
                self.docblock += 1
            elif "docblock" in classes:
                self.flush()
                self.docblock = 1
        if tag in BLOCKS and not self.signature and not (self.pre and tag != "pre"):
            self.flush()
            self.kind = "text"
            if tag == "li" and self.wanted():
                self.prefix = "- "
            elif tag[0] == "h" and tag[1:].isdigit():
                if self.is_book or self.docblock:
                    self.kind = "heading"
                elif tag == "h1":
                    self.kind = "title"
                elif "code-header" in classes:
                    self.kind, self.signature = "signature", True
            elif tag == "pre" and (self.is_book or self.docblock or "item-decl" in classes):
                self.kind, self.pre, self.language = "code", True, "rust" if "rust" in classes else ""
        if tag == "code":
            if self.pre:
                if "language-rust" in classes:
                    self.language = "rust"
            elif self.kind in ("text", "heading") and self.wanted():
                self.buffer.append("`")
        if tag == "div" and (self.pre or self.signature) and self.buffer:
            self.buffer.append("\n")  # a where clause or an attribute
        if tag in ("td", "th") and self.buffer:
            self.buffer.append(" | ")
        if tag == "br":
            self.buffer.append("\n")

    def handle_endtag(self, tag):
        if self.skipping:
            if tag == self.skipping[0]:
                depth = self.skipping[1] - 1
                self.skipping = (tag, depth) if depth else None
            return
        if tag == "div" and self.pre:
            self.buffer.append("\n")
        if tag == "code" and not self.pre and self.kind in ("text", "heading") and self.wanted():
            self.buffer.append("`")
        if tag == "pre" and self.pre:
            self.flush()
            if self.blocks and self.blocks[-1][0] == "code":
                self.blocks[-1] = ("code", f"```{self.language}\n{self.blocks[-1][1]}\n```")
            self.pre, self.kind = False, "text"
        elif self.signature:
            if tag[0] == "h" and tag[1:].isdigit():
                self.flush()
                self.signature, self.kind = False, "text"
        elif tag in BLOCKS and not self.pre:
            self.flush()
            self.kind = "text"
            if tag in ("li", "ul", "ol"):
                self.prefix = ""
        if tag == "div" and self.docblock:
            self.docblock -= 1
        if tag == "main":
            self.in_main = False

    def handle_data(self, data):
        if not self.skipping and self.wanted():
            self.buffer.append(data)


def plain(text):
    return text.translate({ord("’"): "'", ord("‘"): "'", ord("“"): '"', ord("”"): '"', ord("…"): "...", 0xa0: " ",
                           0x200b: None})


def key(text):
    """Equal for paragraphs that differ only in a number type or a number: i8 to u128 share all their words."""
    text = re.sub(r"\b(NonZero|Atomic)?[iufIUF](8|16|32|64|128|size)\b", "T", text)
    return re.sub(r"[^a-z]+", " ", re.sub(r"\d+", "0", text).lower())


def clean(blocks, seen):
    """Drops what an earlier page said, and signatures and headings that nothing follows."""
    kept = []
    for kind, text in blocks:
        text = plain(text)
        if text.endswith("Read more") or text.startswith(("Source", "Redirecting to")):
            continue
        if kind in ("text", "code"):
            if kind == "code" and len(text) > 3000:
                continue
            k = key(text)
            if len(k) > 16 and k in seen:
                continue
            seen.add(k)
        kept.append((kind, text))
    out = []
    rank = {"title": 0, "signature": 1, "heading": 2, "text": 3, "code": 3}
    for i, (kind, text) in enumerate(kept):
        if kind != "title" and rank[kind] < 3:
            following = kept[i + 1][0] if i + 1 < len(kept) else "title"
            if rank[following] <= rank[kind] and not (kind == "heading" and following == "heading"):
                continue
            if kind == "heading" and text in ("Examples", "Example") and following != "code" and following != "text":
                continue
        out.append((kind, text))
    while out and rank[out[-1][0]] < 3:
        out.pop()
    marks = {"title": "# ", "signature": "### ", "heading": "## "}
    if sum(len(t) for k, t in out if k == "text") < 60:
        return ""
    text = ""
    for i, (kind, block) in enumerate(out):
        tight = i and block.startswith("- ") and out[i - 1][1].startswith("- ")
        text += ("" if not i else "\n" if tight else "\n\n") + marks.get(kind, "") + block
    return text + "\n"


def read(path, is_book, seen):
    html = path.read_text(encoding="utf-8")
    if 'http-equiv="refresh"' in html[:1500].lower():
        return ""
    page = Page(is_book)
    page.feed(html)
    page.close()
    page.flush()
    return clean(page.blocks, seen)


def main():
    out = Path(sys.argv[1])
    if len(sys.argv) > 2:
        root = Path(sys.argv[2])
    else:
        sysroot = subprocess.run(["rustc", "--print", "sysroot"], check=True, capture_output=True, text=True).stdout
        root = Path(sysroot.strip()) / "share/doc/rust/html"
    seen = set()
    chapters = sorted((root / "book").glob("ch[0-9]*.html")) + sorted((root / "book").glob("appendix-*.html"))
    book, book_val, library, library_val = [], [], [], []
    for path in [root / "book/foreword.html", *chapters]:
        text = read(path, True, seen)
        if text:
            (book_val if path.stem in VAL_CHAPTERS else book).append(text)
    for crate in ("std", "alloc", "core"):
        # Of pages that repeat each other the one first read stays: rather i32 than i128.
        pages = sorted((root / crate).rglob("*.html"), key=lambda p: (p.stem not in FIRST, len(p.parts), str(p)))
        for path in pages:
            relative = path.relative_to(root / crate).as_posix()
            # Thousands of machine instructions, each with one line of text.
            if relative.startswith(("arch/", "core_arch/", "intrinsics/", "simd/", "all.html")) or "/arch/" in relative:
                continue
            text = read(path, False, seen)
            if text:
                library.append(text)
    rng = random.Random(1)
    rng.shuffle(library)
    library, library_val = library[len(library) // VAL_EVERY:], library[:len(library) // VAL_EVERY]
    train = book * BOOK_COPIES + library
    rng.shuffle(train)
    val = book_val + library_val
    out.mkdir(parents=True, exist_ok=True)
    (out / "train.txt").write_text("".join(t + END for t in train), encoding="utf-8")
    (out / "val.txt").write_text("".join(t + END for t in val), encoding="utf-8")
    for name, texts in (("book", book), ("library", library), ("train (book x %d)" % BOOK_COPIES, train), ("val", val)):
        print(f"{name}: {len(texts)} pages, {sum(len(t) for t in texts) / 1e6:.2f} M characters")


if __name__ == "__main__":
    main()
