// Another process with a device of its own, for what one process cannot show.
import { spawn, type ChildProcess } from "node:child_process";

const nativeModule = new URL("../../runtime/native.ts", import.meta.url).href;

export interface Ended { code: number | null; signal: string | null; output: string }

/**
 * Runs `body` with `device` = native(); `process.argv.slice(1)` are `args`. `line()` waits for its next line of output, `exited`
 * for its end and the end of everyone who holds its output.
 */
export function child(body: string, args: string[] = [], environment: Record<string, string> = {}): { process: ChildProcess; line(): Promise<string>; exited: Promise<Ended> } {
  const program = `const { native } = await import(${JSON.stringify(nativeModule)}); const device = native();\n${body}`;
  const spawned = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", program, "--", ...args], { env: { ...process.env, ...environment }, stdio: ["ignore", "pipe", "pipe"] });
  let output = "", errors = "", taken = 0;
  const waiting: { resolve: (line: string) => void; reject: (error: Error) => void }[] = [];
  const deliver = () => {
    for (let end; waiting.length && (end = output.indexOf("\n", taken)) >= 0; taken = end + 1) waiting.shift()!.resolve(output.slice(taken, end));
  };
  spawned.stdout.on("data", (chunk) => { output += chunk; deliver(); });
  spawned.stderr.on("data", (chunk) => (errors += chunk));
  const exited = new Promise<Ended>((resolve) => spawned.on("close", (code, signal) => {
    waiting.forEach(({ reject }) => reject(new Error(`the child ended (${code ?? signal}): ${errors}`)));
    resolve({ code, signal, output: output + errors });
  }));
  return { process: spawned, exited, line: () => new Promise((resolve, reject) => { waiting.push({ resolve, reject }); deliver(); }) };
}
