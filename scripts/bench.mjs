/** `node scripts/bench.mjs [names] [flags]`: runs test/bench/NAME.ts, or all of them, one after the other, each in a process of its own. */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const known = readdirSync(join("test", "bench")).filter((file) => file.endsWith(".ts") && file !== "report.ts").map((file) => file.slice(0, -3)).sort();
const flags = process.argv.slice(2).filter((argument) => argument.startsWith("-"));
const named = process.argv.slice(2).filter((argument) => !argument.startsWith("-"));
const wanted = named.length ? named : known;
const unknown = wanted.filter((name) => !known.includes(name));
if (unknown.length) {
  console.error(`no benchmark ${unknown.join(", ")}; there are ${known.join(", ")}`);
  process.exit(2);
}
for (const name of wanted) {
  if (!flags.includes("--json")) console.log(`# ${name}`);
  const { status } = spawnSync(process.execPath, ["--import", "tsx", "--conditions=source", join("test", "bench", `${name}.ts`), ...flags], { stdio: "inherit" });
  if (status !== 0) process.exitCode = 1;
}
