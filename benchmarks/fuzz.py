"""Broken input, by the thousand: whatever comes, only errors of our own tree leave, in 5 seconds and 2 GiB at most.

    python benchmarks/fuzz.py [--images 50000] [--labels 10000] [--recipes 10000] [--archives 2000] [--seed 0] [--only images]

Images are small files of every format that is read, with bytes changed, numbers of heads made large, pieces cut, doubled and swapped;
labels are strings of separators, quotes, controls and letters of many scripts; recipes are TOML with values, keys and lines changed;
archives are zip, tar and npz through `datasets` unpacking and the readers of saved arrays. Each kind runs in a process of its own; the same
seed makes the same inputs. Each finding is printed with its kind and number: `--only KIND --at NUMBER` makes that one alone, and `--keep
FOLDER` writes it. Exits 1 where there is a finding.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import random
import resource
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

Case = tuple[object, Callable[[], object]]
"""What came, for a person who looks; and the work to be done with it."""

Maker = Callable[[random.Random], Case]

SLOWEST = 5.0
"""Seconds that one input may take."""

MOST = 2 << 30
"""Bytes of memory, at the peak."""

_LARGE = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0xFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
_WORDS = ("cat", "dog", "grass", "sky", "Katze", "犬", "кот", "a b", "e\u0301", "\u200b", "\ufeff", "\ufffd", "\ud800", "\U0001f408")
_MARKS = (",", ";", "\n", "\r\n", "\t", '"', "'", "\\", "[", "]", "{", "}", ":", "#", "=", "\0", "\x1b", "\x9b", "%", "，", "；", " ")


def seeds() -> list[bytes]:
    """Small images of every format, and of some of their kinds."""
    from PIL import Image, PngImagePlugin

    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (17, 23, 3), np.uint8))
    grey, flat = colours.convert("L"), Image.new("RGB", (24, 16), (9, 90, 200))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "an image"
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "b" * 99, zip=True)
    deep = Image.fromarray(rng.integers(0, 65536, (9, 11), np.uint16))
    asked: list[tuple[Image.Image, str, dict[str, object]]] = [
        *((colours, "JPEG", {"progressive": on, "exif": exif}) for on in (False, True)),
        *((colours, "PNG", {"exif": exif, "pnginfo": text}), (grey, "PNG", {}), (deep, "PNG", {}), (colours.convert("P"), "PNG", {})),
        *((colours, "WEBP", {"exif": exif}), (colours, "WEBP", {"lossless": True}), (colours.convert("RGBA"), "WEBP", {})),
        *((colours, "TIFF", {"compression": kind}) for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
        *((deep, "TIFF", {}), (grey.convert("1"), "TIFF", {"compression": "group4"}), (grey.convert("F"), "TIFF", {})),
        *((colours, "GIF", {"save_all": True, "append_images": [flat, grey]}), (colours, "BMP", {}), (grey, "BMP", {})),
        *((colours, "PPM", {}), (grey, "PPM", {}), (grey.convert("1"), "PPM", {})),
        *((colours, "JPEG2000", {}), (grey, "JPEG2000", {"tile_size": (8, 8)}), (flat, "AVIF", {}), (colours, "QOI", {})),
        (colours, "MPO", {"save_all": True, "append_images": [flat]}),
    ]
    found = []
    for image, format, options in asked:
        out = io.BytesIO()
        image.save(out, format, **options)
        found.append(out.getvalue())
    plain = b"P3\n# c\n3 2\n255\n" + b" ".join(str(value).encode() for value in range(18)) + b"\n"
    runs = b"BM" + struct.pack("<LLLLllHHLLllLL", 90, 0, 70, 40, 4, 2, 1, 8, 1, 20, 0, 0, 4, 0) + bytes(16) + b"\4\1\0\0\4\2\0\1"
    return [*found, plain, runs]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to six changes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at, way = rng.randrange(max(1, len(changed))), rng.randrange(8)
        if way < 3:
            for place in range(at, min(len(changed), at + rng.choice((1, 1, 1, 2, 8)))):
                changed[place] = rng.randrange(256)
        elif way < 5:
            width = rng.choice((1, 2, 4, 8))
            changed[at : at + width] = (rng.choice(_LARGE) & (256**width - 1)).to_bytes(width, rng.choice(("little", "big")))
        elif way == 5:
            end = at + rng.randint(1, 64)
            changed[at:at] = changed[at:end] * rng.choice((1, 2, 50, 2000))
        elif way == 6:
            del changed[at : at + rng.choice((1, 4, 64, len(changed)))]
        else:
            other = rng.randrange(max(1, len(changed)))
            length = rng.randint(1, 32)
            changed[at : at + length] = changed[other : other + length]
    return bytes(changed[: 1 << 20])


def images(folder: Path) -> Maker:
    """Mutated images, through `load_image`; small enough a cap that honest work is short."""
    from nerveseg.image import load_image

    from_ = seeds()

    def make(rng: random.Random) -> Case:
        data = mutated(rng.choice(from_), rng)
        return data, lambda: load_image(data, max_pixels=5_000_000)

    return make


def labels(folder: Path) -> Maker:
    """Strings and lists of them, through the vocabulary's readers."""
    from nerveseg.words.vocabulary import Background, Vocabulary

    def make(rng: random.Random) -> Case:
        parts = [rng.choice((*_WORDS, *_MARKS, *_MARKS)) for _ in range(rng.choice((0, 1, 3, 10, 40, 3000)))]
        text = "".join(parts)
        way = rng.randrange(4)
        given: object = text if way < 3 else [text[at : at + 9] for at in range(0, min(len(text), 900), 9)]

        def work() -> object:
            made = Vocabulary.parse_line(text) if way < 2 else Vocabulary.parse(given)
            return Background.parse(rng.choice(("auto", None, parts[:3])), made)

        return given, work

    return make


def recipes(folder: Path) -> Maker:
    """Recipe files with lines changed, and settings of any type."""
    from nerveseg import recipe

    texts = [path.read_text("utf-8") for path in sorted((Path(recipe.__file__).parent / "recipes").glob("*.toml"))]
    values = (
        "inf",
        "nan",
        "-1",
        "1e400",
        "0",
        "true",
        '""',
        "[]",
        "{}",
        "[[[[1]]]]",
        '"x"',
        "3.5",
        "[" * 300,
        "9" * 400,
        "1979-05-27",
        "'\0'",
    )
    place = folder / "recipe.toml"

    def make(rng: random.Random) -> Case:
        lines = rng.choice(texts).splitlines()
        for _ in range(rng.randint(1, 4)):
            at, way = rng.randrange(len(lines)), rng.randrange(6)
            name, equals, _ = lines[at].partition("=")
            if way < 3 and equals:
                lines[at] = f"{name}= {rng.choice(values)}"
            elif way == 3:
                lines.insert(
                    at, rng.choice(("[walk]", "[benchmarks.voc21]", "[benchmarks]", "voc21 = inf", f"{rng.choice(_WORDS)!r} = 1", "="))
                )
            elif way == 4:
                lines[at] = mutated(lines[at].encode() or b" ", rng).decode("utf-8", "replace")[:2000]
            else:
                del lines[at]
                lines = lines or [""]
        text = "\n".join(lines)

        def work() -> object:
            place.write_text(text, "utf-8", errors="replace")
            return recipe.load(str(place))

        return text, work

    return make


def archives(folder: Path) -> Maker:
    """Zip, tar and npz, whole at first, through unpacking and through the readers of saved scores."""
    from nerveseg.datasets import _unpack
    from nerveseg.image import arrays

    zipped, tarred, saved = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(4):
            archive.writestr(f"a/{index}.txt", f"{index}" * 200)
    with tarfile.open(fileobj=tarred, mode="w:gz") as archive:
        for index in range(4):
            entry = tarfile.TarInfo(f"a/{index}.txt")
            entry.size = 200
            archive.addfile(entry, io.BytesIO(bytes(200)))
    np.savez_compressed(saved, scores=np.ones((3, 4, 5), np.float32), labels=np.array(["a", "b", "c"]))
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a/b.txt"))
    kinds = {"zip": zipped.getvalue(), "tar.gz": tarred.getvalue(), "tar": plain.getvalue(), "npz": saved.getvalue()}

    def make(rng: random.Random) -> Case:
        kind = rng.choice(list(kinds))
        data = mutated(kinds[kind], rng)

        def work() -> object:
            with tempfile.TemporaryDirectory(dir=folder) as inside:
                place = Path(inside) / f"a.{kind}"
                place.write_bytes(data)
                if kind == "npz":
                    return arrays.read(place).floats("scores", "K, h, w")
                return _unpack.unpack(place, Path(inside) / "out", _unpack.below("", ""))

        return data, work

    return make


KINDS: dict[str, Callable[[Path], Maker]] = {"images": images, "labels": labels, "recipes": recipes, "archives": archives}
_HANGS = 120.0  # seconds of the clock after which a process says where it is, and ends


def case(maker: Maker, kind: str, seed: int, number: int) -> Case:
    """One input: the same whenever it is made."""
    return maker(random.Random(f"{seed} {kind} {number}"))


def tried(kind: str, seed: int, numbers: range, keep: Path | None) -> dict[str, object]:
    """All inputs of one kind, in this process."""
    from nerveseg.errors import NerveSegError

    warnings.simplefilter("ignore")
    outcomes, findings, slowest = Counter[str](), list[str](), (0.0, -1)
    with tempfile.TemporaryDirectory() as folder:
        maker = KINDS[kind](Path(folder))
        for number in numbers:
            content, work = case(maker, kind, seed, number)
            faulthandler.dump_traceback_later(_HANGS, exit=True)
            before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
            try:
                work()
                outcome, wrong = "read", ""
            except NerveSegError as error:
                outcome, wrong = type(error).__name__, ""
            except BaseException as error:
                outcome = wrong = f"{type(error).__name__}: {str(error)[:200]!r}"
            taken, peak = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            faulthandler.cancel_dump_traceback_later()
            outcomes[outcome if not wrong else "another error"] += 1
            slowest = max(slowest, (taken, number))
            if taken > SLOWEST:
                wrong = f"{taken:.1f} s"
            if peak << 10 > MOST and peak > before:
                wrong = f"{peak >> 10} MiB"
            if wrong:
                findings.append(f"--only {kind} --seed {seed} --at {number}: {wrong}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    keep.joinpath(f"{kind}-{seed}-{number}").write_bytes(content if isinstance(content, bytes) else repr(content).encode())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return {"outcomes": outcomes, "findings": findings, "slowest": slowest, "peak": peak}


def main() -> None:
    """Try each kind in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind, count in (("images", 50_000), ("labels", 10_000), ("recipes", 10_000), ("archives", 2000)):
        parser.add_argument(f"--{kind}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=KINDS, default=None)
    parser.add_argument("--at", type=int, default=None, help="with --only: this input alone")
    parser.add_argument("--keep", type=Path, default=None, help="folder for inputs that are findings")
    parser.add_argument("--row", choices=KINDS, default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        numbers = range(getattr(given, given.row)) if given.at is None else range(given.at, given.at + 1)
        print(json.dumps(tried(given.row, given.seed, numbers, given.keep)))
        return
    print("| kind | inputs | outcomes | slowest, s | peak, MiB | seconds | findings |\n|---|---|---|---|---|---|---|")
    findings = list[str]()
    for kind in [given.only] if given.only else list(KINDS):
        began = time.perf_counter()
        ran = subprocess.run([sys.executable, __file__, "--row", kind, *sys.argv[1:]], capture_output=True, text=True, check=False)
        taken = time.perf_counter() - began
        if ran.returncode:
            findings.append(f"{kind}: the process ended with {ran.returncode}: {ran.stderr[-2000:]}")
            continue
        row = json.loads(ran.stdout)
        outcomes = ", ".join(f"{name} {count:,}" for name, count in sorted(row["outcomes"].items()))
        count = sum(row["outcomes"].values())
        slowest = f"{row['slowest'][0]:.2f}"
        print(f"| {kind} | {count:,} | {outcomes} | {slowest} | {row['peak']:,} | {taken:.0f} | {len(row['findings'])} |", flush=True)
        findings += row["findings"]
        if ran.stderr:
            findings.append(f"{kind}: {len(ran.stderr):,} letters on stderr: {ran.stderr[:300]!r}")
    for text in findings:
        print("found:", text)
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
