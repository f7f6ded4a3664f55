/** `npm run bench -- [kernels|messages|train ...]`: runs the benchmarks named, or all, one after the other. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const all = ["kernels", "messages", "train"];
const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith("-"));
const flags = process.argv.slice(2).filter((argument) => argument.startsWith("-"));
const unknown = wanted.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  console.error(`bench: expected ${all.join(", ")}, found ${unknown.join(", ")}.`);
  process.exit(2);
}
for (const name of wanted.length > 0 ? wanted : all) {
  const file = fileURLToPath(new URL(`${name}.ts`, import.meta.url));
  const { status } = spawnSync(process.execPath, ["--import", "tsx", "--conditions=source", file, ...flags], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
