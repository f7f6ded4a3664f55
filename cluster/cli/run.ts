import { CommanderError } from "commander";
import { RuntimeError } from "../../runtime/index.ts";
import { createOutput, type Streams } from "./output.ts";
import { buildProgram } from "./program.ts";

const terminal: Streams = { out: (text) => void process.stdout.write(text), err: (text) => void process.stderr.write(text) };

/**
 * Runs one command line and gives its exit code: 0 done (or stopped as asked), 1 a run failed, 2 what was given is wrong.
 * Every error is one message on stderr, or with --json an event; nothing is thrown.
 */
export async function main(args: readonly string[], streams: Streams = terminal): Promise<number> {
  const output = createOutput(args.includes("--json"), streams);
  let exitCode = 0;
  try {
    await buildProgram(output, streams, (code) => (exitCode = code)).parseAsync(args as string[], { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0; // --help and --version have said what they had to
    exitCode = output.fail(error instanceof CommanderError ? asInputError(error) : error);
  }
  output.end(exitCode);
  return exitCode;
}

function asInputError(error: CommanderError): RuntimeError {
  const message = error.code === "commander.help" ? "A command is needed: check, model, plan, train, ablate, ask, evaluate, inspect, import, export, doctor, plugins." : error.message.replace(/^error: /, "").replaceAll("\n", " ");
  return new RuntimeError("ERR_INPUT", `${message}${/[.)?]$/.test(message) ? "" : "."} See octavo --help.`, { commander: error.code });
}
