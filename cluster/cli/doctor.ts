/** What this machine offers, what is missing, and the command that gets it. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { join } from "node:path";
import { explain, native, type Native } from "../../runtime/index.ts";
import { packageRoot, program } from "../launcher/entries.ts";

/** `missing` keeps Octavo from running; `limited` costs speed or a feature. */
export interface Finding { name: string; state: "ok" | "limited" | "missing"; found: string; fix?: string; details?: Record<string, unknown> }

export async function doctor(): Promise<Finding[]> {
  return [platform(), node(), cores(), ...addon(), await zeromq(), build()];
}

function platform(): Finding {
  const fits = process.platform === "linux";
  return { name: "system", state: fits ? "ok" : "missing", found: `${process.platform} ${process.arch}`, ...(fits ? {} : { fix: "Octavo runs on Linux: use a Linux machine or container." }) };
}

function node(): Finding {
  const [major, minor] = process.versions.node.split(".").map(Number);
  const fits = major > 20 || (major === 20 && minor >= 19);
  return { name: "node", state: fits ? "ok" : "missing", found: process.versions.node, ...(fits ? {} : { fix: "Install Node 20.19 or later." }) };
}

function cores(): Finding {
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  const count = availableParallelism();
  return { name: "cores", state: count > 1 ? "ok" : "limited", found: `${count} of ${cpus()[0]?.model ?? "unknown model"}; memory ${gib(totalmem())}, free ${gib(freemem())}`,
    ...(count > 1 ? {} : { fix: "Several workers share one core here; --in-process is faster." }) };
}

function addon(): Finding[] {
  let info: ReturnType<Native["info"]>;
  try {
    info = native().info();
  } catch (error) {
    return [{ name: "native addon", state: "missing", found: explain(error), fix: "npm run setup" }];
  }
  const { gemm, cuda, openmp, isa, isaLimit, clones, threads } = info;
  const oneDnn = gemm.library.toLowerCase().includes("dnnl") || gemm.library.toLowerCase().includes("onednn");
  return [
    { name: "native addon", state: "ok", found: `loaded, ${threads} thread${threads === 1 ? "" : "s"}` },
    { name: "instruction sets", state: isa.length && isaLimit === "none" ? "ok" : "limited", details: { isa, isaLimit, clones },
      found: `${isa.join(" ") || "none beyond the baseline"}; loops run as ${clones}${isaLimit === "none" ? "" : `, held to OCTAVO_ISA=${isaLimit}`}`,
      ...(isaLimit === "none" ? {} : { fix: "Leave OCTAVO_ISA out for full speed." }) },
    { name: "OpenMP", state: openmp ? "ok" : "limited", found: openmp ? "compiled in" : "absent: kernels run on one thread", ...(openmp ? {} : { fix: "Install a g++ with libgomp, then npm run setup." }) },
    { name: "oneDNN", state: oneDnn ? "ok" : "limited", found: `products by ${gemm.library}${gemm.version ? ` ${gemm.version}` : ""}: f32 ${gemm.f32}; bf16 ${gemm.bf16}; tried ${gemm.tried.join(", ") || "nothing"}`, details: { ...gemm },
      ...(oneDnn ? {} : { fix: "sudo apt-get install -y libdnnl2" }) },
    { name: "CUDA", state: cuda.compiled && cuda.devices > 0 ? "ok" : "limited", found: `${cuda.compiled ? "compiled in" : "not compiled in"}, ${cuda.devices} device${cuda.devices === 1 ? "" : "s"}; ${cuda.note}`, details: { ...cuda },
      ...(cuda.compiled ? {} : { fix: "Only for NVIDIA GPUs: install the CUDA toolkit (nvcc on the path), then npm run setup." }) },
  ];
}

async function zeromq(): Promise<Finding> {
  try {
    const { capability, version } = await import("zeromq");
    const features = Object.entries(capability).filter(([, has]) => has).map(([feature]) => feature);
    return { name: "zeromq", state: capability.ipc ? "ok" : "missing", found: `${version} with ${features.join(", ")}`, details: { version, ...capability },
      ...(capability.ipc ? {} : { fix: "Workers of one host talk over ipc: reinstall with npm ci." }) };
  } catch (error) {
    return { name: "zeromq", state: "missing", found: explain(error), fix: "npm ci" };
  }
}

/** Whether the programs that workers start from exist, and which they are. */
function build(): Finding {
  const worker = program("cluster/agent/worker").args.at(-1)!;
  const version = (createRequire(import.meta.url)(join(packageRoot(), "package.json")) as { version: string }).version;
  const there = existsSync(worker);
  return { name: "octavo", state: there ? "ok" : "missing", found: `${version}, workers start ${there ? "from" : "from the missing"} ${worker}`, ...(there ? {} : { fix: "npm run setup" }) };
}

export function formatFindings(findings: readonly Finding[]): string {
  const marks = { ok: "ok     ", limited: "limited", missing: "MISSING" };
  const width = Math.max(...findings.map((one) => one.name.length));
  return findings.flatMap((one) => [
    `${marks[one.state]}  ${one.name.padEnd(width)}  ${one.found}`,
    ...(one.fix ? [`${" ".repeat(width + 11)}-> ${one.fix}`] : []),
  ]).join("\n");
}
