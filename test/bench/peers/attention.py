"""
The peer of test/bench/attention.ts.
  attention.py N HEADS WIDTH THREADS ROUNDS CAUSAL   one line of JSON: best seconds of forward and backward, bytes of memory they needed
Scores, softmax and product as batched matrix products: what this version of PyTorch does on a CPU under any name.
"""
import json
import resource
import sys
import time

import torch

n, heads, width, threads, rounds, causal = map(int, sys.argv[1:])
torch.set_num_threads(threads)
torch.manual_seed(0)
q, k, v = (torch.randn(1, heads, n, width).mul_(0.5).requires_grad_() for _ in range(3))
dy = torch.randn(1, heads, n, width)
hidden = torch.full((n, n), float("-inf")).triu_(1) if causal else None


def step():
    scores = (q * width ** -0.5) @ k.transpose(-1, -2)
    if causal: scores = scores.add_(hidden)
    y = torch.softmax(scores, -1) @ v
    del scores
    y.backward(dy)
    q.grad = k.grad = v.grad = None


def resident(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


before, best = resident(), float("inf")
for _ in range(rounds):
    start = time.perf_counter()
    step()
    best = min(best, time.perf_counter() - start)
print(json.dumps({"seconds": best, "bytes": resident() - before, "torch": torch.__version__}))
