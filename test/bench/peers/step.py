"""
The peer of test/bench/step.ts.
  step.py versions                         one line of JSON
  step.py compare FOLDER                   losses, gradients and the update against those that Octavo wrote to FOLDER
  step.py rounding FOLDER                  how far gradients in bf16, Octavo's and the peer's under autocast, are from those in f64
  step.py time FOLDER THREADS STEPS WHOLE MODE WARM
      seconds and CPU seconds of every step after WARM others; WHOLE 1: the batch at once instead of its microbatches;
      MODE f32, autocast (f32 parameters, torch.autocast to bfloat16) or bf16 (everything .to(bfloat16), the parameters too)
"""
import contextlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from model import FUSED_ATTENTION, Model
from safetensors_file import read_safetensors


def load(folder, dtype):
    about = json.loads((folder / "about.json").read_text())
    model = Model(about["options"]).to(dtype)
    state = {name: torch.from_numpy(value).to(dtype) for name, value in read_safetensors(folder / "weights.safetensors").items()}
    model.load_state_dict(state, strict=True)
    return about, model


def batch_of(folder, about, step, dtype):
    def tensor(array):
        if array.dtype == np.float32: return torch.from_numpy(array).to(dtype)
        return torch.from_numpy(array.astype(np.int64) if array.dtype == np.int32 else array)
    return [{name: tensor(value) for name, value in read_safetensors(folder / f"batch-{step}-{m}.safetensors").items()}
            for m in range(len(about["batches"][step]["microbatches"]))]


def joined(microbatches):
    """One batch: texts padded to the longest, flat indices moved."""
    longest = max(m["text_ids"].shape[1] for m in microbatches)
    out = {name: [] for name in microbatches[0] if name != "mlm_labels"}
    rows = 0
    for m in microbatches:
        (B, T), P = m["text_ids"].shape, m["patch_mask"].shape[1]
        for name in out:
            value = m[name]
            if name == "mlm_index": value = (rows + torch.div(value, T, rounding_mode="floor")) * longest + value % T
            elif name == "mim_index": value = value + rows * P
            elif value.dim() >= 2 and value.shape[:2] == (B, T) and name not in ("pixels", "patch_mask"):
                value = F.pad(value, [0, 0] * (value.dim() - 2) + [0, longest - T], value=-100 if name == "wpa_labels" else 0)
            out[name].append(value)
        rows += B
    return [{name: torch.cat(values) for name, values in out.items()}]


def optimizer_of(about, model):
    decays = set(about["decays"])
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [{"params": [p for name, p in trained if (name in decays) == on], "weight_decay": about["optimizer"]["weight_decay"] if on else 0.0} for on in (True, False)]
    return torch.optim.AdamW(groups, lr=about["optimizer"]["lr"], betas=tuple(about["optimizer"]["betas"]), eps=about["optimizer"]["eps"])


def backward(model, microbatches, counts, mode="f32"):
    total = {}
    for microbatch in microbatches:
        with torch.autocast("cpu", dtype=torch.bfloat16) if mode == "autocast" else contextlib.nullcontext():
            losses = model(microbatch, counts)
        sum(losses.values()).backward()
        for name, value in losses.items():
            total[name] = total.get(name, 0.0) + value.item()
    return total


def train_step(model, optimizer, microbatches, counts, clip, mode):
    optimizer.zero_grad(set_to_none=True)
    losses = backward(model, microbatches, counts, mode)
    torch.nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), clip)
    optimizer.step()
    return losses


def norm(x):
    return float(np.linalg.norm(x.astype(np.float64)))


def differences(got, wanted, floor_share=1e-6):
    """Per tensor |got - wanted| / max(|wanted|, floor_share * norm of all), the largest first."""
    floor = floor_share * sum(norm(w) ** 2 for w in wanted.values()) ** 0.5
    rows = [{"tensor": name, "error": norm(got[name].astype(np.float64) - w) / max(norm(w), floor), "norm": norm(w)} for name, w in wanted.items()]
    return sorted(rows, key=lambda row: -row["error"])


def gradients(folder, dtype, whole, mode="f32"):
    about, model = load(folder, dtype)
    microbatches = batch_of(folder, about, 0, dtype)
    losses = backward(model, joined(microbatches) if whole else microbatches, about["batches"][0]["counts"], mode)
    return losses, {name: p.grad.numpy() for name, p in model.named_parameters() if p.requires_grad}


def compare(folder):
    about = json.loads((folder / "about.json").read_text())
    octavo = read_safetensors(folder / "gradients.safetensors")
    (losses, f32), (losses64, f64) = gradients(folder, torch.float32, False), gradients(folder, torch.float64, True)
    missing = sorted(set(f32) ^ set(octavo))
    # The update: the same gradients (Octavo's) through clip and AdamW.
    _, model = load(folder, torch.float32)
    before = {name: p.detach().numpy().copy() for name, p in model.named_parameters() if p.requires_grad}
    for name, p in model.named_parameters():
        if p.requires_grad: p.grad = torch.from_numpy(octavo[name].copy())
    clipped = torch.nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), about["clip"])
    optimizer_of(about, model).step()
    after = read_safetensors(folder / "updated.safetensors")
    moved = {name: p.detach().numpy() - before[name] for name, p in model.named_parameters() if p.requires_grad}
    return {
        "missing": missing, "tensors": len(octavo), "losses": {name: {"octavo": about["losses"][name], "peer": losses[name], "peer64": losses64[name]} for name in losses},
        "octavoVsPeer": differences(octavo, f32), "octavoVsPeer64": differences(octavo, f64), "peerVsPeer64": differences(f32, f64),
        "norm": {"octavo": about["norm"], "peer": float(clipped)},
        "update": differences({name: after[name] - before[name] for name in moved}, moved),
    }


def rounding(folder):
    octavo = read_safetensors(folder / "gradients.safetensors")
    about = json.loads((folder / "about.json").read_text())
    (losses, peer), (losses64, exact) = gradients(folder, torch.float32, False, "autocast"), gradients(folder, torch.float64, True)
    total = sum(norm(g) ** 2 for g in exact.values()) ** 0.5
    distance = lambda got: sum(norm(got[name].astype(np.float64) - g) ** 2 for name, g in exact.items()) ** 0.5 / total
    return {"octavo": distance(octavo), "peer": distance(peer), "losses": {name: {"octavo": about["losses"][name], "peer": losses[name], "peer64": losses64[name]} for name in losses}}


def time_steps(folder, threads, steps, whole, mode, warm):
    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if mode == "bf16" else torch.float32
    about, model = load(folder, dtype)
    batches = [batch_of(folder, about, step, dtype) for step in range(len(about["batches"]))]
    batches = [joined(b) if whole else b for b in batches]
    optimizer = optimizer_of(about, model)
    seconds, cpu, losses = [], [], None
    for step in range(-warm, steps):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        losses = train_step(model, optimizer, batches[step % len(batches)], about["batches"][step % len(batches)]["counts"], about["clip"], mode)
        if step >= 0:
            seconds.append(time.perf_counter() - begun)
            cpu.append(time.process_time() - begun_cpu)
    return {"seconds": seconds, "cpu": cpu, "losses": losses}


def main(command, folder=None, threads=1, steps=1, whole=0, mode="f32", warm=1):
    if command == "versions":
        return {"torch": torch.__version__, "numpy": np.__version__, "fusedAttention": FUSED_ATTENTION is not None, "isa": torch.__config__.show().split("CPU capability usage: ")[1].split("\n")[0]}
    if command == "compare":
        return compare(Path(folder))
    if command == "rounding":
        return rounding(Path(folder))
    return time_steps(Path(folder), int(threads), int(steps), int(whole), mode, int(warm))


print(json.dumps(main(*sys.argv[1:])))
