/**
 * The parallel runtime: its schedules, messages, lanes and collectives. `npm run bench -- runtime [--part=NAME] [--json] [--write]`
 *
 * Every file of `runtime/` is a part: it exports `measure`, which reports its cases ("runtime/<part>/..."). Parts run one after the other
 * in this process, in the order of their names; a part ends every process, actor and tensor it started. With --part only the named one,
 * or those between commas, run.
 */
import { readdirSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { keep, reportFlags, say } from "./report.ts";

interface Part { measure(): Promise<void> }

const folder = fileURLToPath(new URL("runtime", import.meta.url));
const known = readdirSync(folder).filter((file) => file.endsWith(".ts")).map((file) => file.slice(0, -3)).sort();
const { values } = parseArgs({ options: { ...reportFlags, part: { type: "string" } } });
const wanted = values.part?.split(",") ?? known;
const unknown = wanted.filter((name) => !known.includes(name));
if (unknown.length > 0) throw new Error(`--part: expected some of ${known.join(", ")}, found ${unknown.join(", ")}`);
for (const name of wanted) {
  say(`## ${name}`);
  const part = (await import(pathToFileURL(join(folder, `${name}.ts`)).href)) as Part;
  await part.measure();
}
keep("runtime", "The parallel runtime: schedules, messages, lanes and collectives");
