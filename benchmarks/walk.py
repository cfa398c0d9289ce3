"""Time and peak memory of the transition and the walk, beside the dense way in the same run.

    python benchmarks/walk.py [--n 1024,4096,16384,65536] [--k 21,171] [--heads 10] [--width 64] [--threads 2] [--quick] [-o FILE]

Every case runs in a process of its own, so that its peak of resident memory is its own. The dense way is what refinement by
self-attention does elsewhere: softmax of all heads, averaged into one n × n matrix, and 40 products with it. Kernels without a
feature map and the dense way stop at n = 16384. Writes FILE (a markdown table with the ratios that the design asks for), FILE with the
suffix .short.md (seconds by graph and n, for the smallest k), and FILE with the suffix .json.

    python benchmarks/fill.py walk-speed out/walk.md && python benchmarks/fill.py walk-short out/walk.short.md
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_DENSE = 16384
LARGEST = {"woodbury": 4096, "direct": 2048}
ALPHA, TOLERANCE, STEPS = 0.9, 1e-4, 40


def main() -> None:
    """Plan the cases, run each in its own process, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", default="1024,4096,16384,65536", help="tokens, squares")
    parser.add_argument("--k", default="21,171", help="columns")
    parser.add_argument("--heads", type=int, default=10)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="runs of which the fastest counts")
    parser.add_argument("--quick", action="store_true", help="n = 256 and 1024, k = 5, one run: a smoke test")
    parser.add_argument("-o", "--output", type=Path, default=None)
    parser.add_argument("--case", default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case is not None:
        print(json.dumps(measure(json.loads(given.case))))
        return
    if given.quick:
        given.n, given.k, given.repeat = "256,1024", "5", 1
    shared = {"heads": given.heads, "width": given.width, "threads": given.threads, "repeat": given.repeat}
    results = []
    for case in plan(numbers(given.n), numbers(given.k)):
        results.append(run({**case, **shared}))
        print(line(results[-1]), file=sys.stderr, flush=True)
    text = table(results) + "\n\n" + "\n".join(f"- {line}" for line in ratios(results).splitlines())
    print(text)
    if given.output is not None:
        given.output.write_text(text + "\n", encoding="utf-8")
        given.output.with_suffix(".short.md").write_text(short(results), encoding="utf-8")
        given.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def plan(sizes: list[int], columns: list[int]) -> list[dict]:
    from nerveseg import registry

    kernels = {name: registry.load("kernels", name).low_rank for name in registry.names("kernels")}
    cases: list[dict] = []
    for n in sizes:
        for k in columns:
            dense = [{"way": "dense"}] if n <= LARGEST_DENSE else []
            dense += [{"way": name, "walk": "infinite"} for name, low_rank in kernels.items() if low_rank or n <= LARGEST_DENSE]
            if n <= LARGEST_DENSE:
                dense.append({"way": "exp", "walk": "infinite", "knobs": {"keep": 64, "neighbours": 0.05}})
                dense.append({"way": "exp", "walk": "infinite", "knobs": {"neighbours": 0.05}})
            dense.append({"way": "anchor", "walk": "infinite", "knobs": {"neighbours": 0.05}})
            walks = [name for name in registry.names("walks") if registry.load("walks", name).needs == "S" and name != "infinite"]
            dense += [{"way": "elu", "walk": name} for name in walks if n <= LARGEST.get(name, n)]
            cases += [{"n": n, "k": k, "walk": "40 products", "knobs": {}, **case} for case in dense]
    return cases


def run(case: dict) -> dict:
    done = subprocess.run([sys.executable, __file__, "--case", json.dumps(case)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        return {**case, "error": said[0].rpartition("errors.")[2].partition(". Accepted")[0]}
    return {**case, **json.loads(done.stdout.splitlines()[-1])}


def measure(case: dict) -> dict:
    """Run one case in this process; seconds, MiB above what torch and the input take, and what the walk reports."""
    import torch

    torch.set_num_threads(case["threads"])
    queries, keys, G = inputs(case)
    go = dense_way if case["way"] == "dense" else our_way
    before = peak()
    best: dict = {"total_s": math.inf}
    for _ in range(case["repeat"]):
        best = min(best, go(case, queries, keys, G), key=lambda result: result["total_s"])
    return {**best, "peak_mib": peak() - before}


def inputs(case: dict) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys that vary smoothly over the grid around a common mean, as an image's do, and a peaked G."""
    import torch

    generator = torch.Generator().manual_seed(0)
    side = math.isqrt(case["n"])
    if side * side != case["n"]:
        sys.exit(f"Got n = {case['n']}. Accepted are squares. Use 1024, 4096, 16384 or 65536.")
    coarse = torch.randn(case["heads"], case["width"], 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").flatten(2).mT + 0.3
    queries = (smooth + 0.5 * torch.randn(smooth.shape, generator=generator)).contiguous()
    keys = (smooth + 0.5 * torch.randn(smooth.shape, generator=generator)).contiguous()
    G = torch.rand(case["n"], case["k"], generator=generator) ** 4
    return queries, keys, G / G.sum(dim=1, keepdim=True)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def dense_way(case: dict, queries: Tensor, keys: Tensor, G: Tensor) -> dict:
    import torch

    start = time.perf_counter()
    n, heads = case["n"], case["heads"]
    with torch.inference_mode():
        S, scores = torch.zeros(n, n), torch.empty(n, n)
        for head in range(heads):
            torch.mm(queries[head] * case["width"] ** -0.5, keys[head].mT, out=scores)
            S.add_(torch.softmax(scores, dim=1), alpha=1 / heads)
        built = time.perf_counter()
        P = G * (1 - ALPHA)
        for _ in range(STEPS):
            P = torch.addmm(G, S, P, beta=1 - ALPHA, alpha=ALPHA)
    end = time.perf_counter()
    return {
        "total_s": end - start,
        "build_s": built - start,
        "walk_s": end - built,
        "steps": STEPS,
        "step_s": (end - built) / STEPS,
        "bound": 2 * ALPHA ** (STEPS + 1),
        "held_mib": S.nbytes / 2**20,
    }


def our_way(case: dict, queries: Tensor, keys: Tensor, G: Tensor) -> dict:
    from nerveseg import registry
    from nerveseg.transition import Heads, build

    side = math.isqrt(case["n"])
    module = registry.load("walks", case["walk"])
    given = {"alpha": ALPHA, **({"tolerance": TOLERANCE} if case["walk"] == "infinite" else {})}
    options = registry.options(module.Options, given)
    start = time.perf_counter()
    S = build(Heads(queries, keys, (side, side)), G, kernel=case["way"], **case["knobs"])
    built = time.perf_counter()
    walk = module.solve(S, G, options)
    end = time.perf_counter()
    S @ G
    return {
        "total_s": end - start,
        "build_s": built - start,
        "walk_s": end - built,
        "steps": walk.steps,
        "step_s": time.perf_counter() - end,
        "bound": walk.bound,
        "held_mib": S.bytes / 2**20,
    }


def line(result: dict) -> str:
    knobs = " ".join(f"{name}={value}" for name, value in result["knobs"].items())
    head = f"| {result['n']} | {result['k']} | {result['way']} {knobs} | {result['walk']} |"
    if "error" in result:
        return f"{head} {result['error']} | | | | | | |"
    return (
        f"{head} {result['total_s']:.3f} | {result['build_s']:.3f} | {result['walk_s']:.3f} | {result['steps']} "
        f"| {1e3 * result['step_s']:.1f} | {result['bound']:.1e} | {result['peak_mib']:.0f} |"
    )


def table(results: list[dict]) -> str:
    head = "| n | k | graph | walk | total s | build s | walk s | steps | ms a step | bound | peak MiB |\n" + "|---" * 11 + "|"
    return "\n".join([head, *(line(result) for result in results)])


def short(results: list[dict]) -> str:
    """Seconds of S and walk together, by graph and n, at the smallest k."""
    fewest = min(result["k"] for result in results)
    sizes = sorted({result["n"] for result in results})
    rows: dict[str, dict[int, str]] = {}
    for result in results:
        if result["k"] == fewest and result["walk"] in ("40 products", "infinite") and "error" not in result:
            knobs = ", ".join(f"{name} {value}" for name, value in result["knobs"].items())
            name = "dense n² refinement, 40 products" if result["way"] == "dense" else f"`{result['way']}`{', ' if knobs else ''}{knobs}"
            rows.setdefault(name, {})[result["n"]] = f"{result['total_s']:.3f}"
    lines = [f"| graph | {' | '.join(f'n = {n}' for n in sizes)} |", "|---|" + "---|" * len(sizes)]
    lines += [f"| {name} | {' | '.join(row.get(n, '') for n in sizes)} |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def ratios(results: list[dict]) -> str:
    """What the design asks for, as far as this run can tell."""
    good = [result for result in results if "error" not in result and not result["knobs"]]
    at = {(result["n"], result["k"], result["way"], result["walk"]): result for result in good}
    out = []
    for n, k in sorted({(result["n"], result["k"]) for result in good}):
        dense = at.get((n, k, "dense", "40 products"))
        for way in ("elu", "shifted", "anchor", "exp", "softmax"):
            ours = at.get((n, k, way, "infinite"))
            if dense and ours:
                wanted = " (wanted at 4096, k = 21: 20 for low rank, 1 for the default kernel)" if (n, k) == (4096, 21) else ""
                out.append(f"n = {n}, k = {k}: {way} is {dense['total_s'] / ours['total_s']:.1f} times faster than the dense way{wanted}")
    for k in sorted({result["k"] for result in good}):
        small, large = (at.get((n, k, "elu", "infinite")) for n in (4096, 65536))
        if small and large:
            ratio = large["step_s"] / 65536 / (small["step_s"] / 4096)
            out.append(f"k = {k}: a step takes {ratio:.2f} times as long a token at n = 65536 as at 4096 (wanted: at most 1.8)")
        if large:
            unit = 65536 * (large["heads"] * large["width"] + 10 * k) * 4 / 2**20
            out.append(f"k = {k}: peak memory at n = 65536 is {large['peak_mib'] / unit:.1f} times n(H·d + 10k) floats")
    return "\n".join(out)


if __name__ == "__main__":
    main()
