/** `octavo ask`: a question about a page, answered in words and boxes, token by token where wanted, or from a closed list. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { generationModes, type AnswerScore, type GenerateOptions } from "../../runtime/index.ts";
import { ask, choose, type AskChoice } from "../verbs.ts";
import type { Output } from "./output.ts";

type AskOptions = AskChoice & GenerateOptions & { stream?: boolean; choices?: string[] };

export function askCommand(command: (usage: string, description: string) => Command, output: Output, positive: (text: string) => number): void {
  command("ask <checkpoint> <page> <prompt>", "ask a checkpoint about a page: an image with its word JSON, or a PDF with a text layer")
    .option("--words <file>", "word JSON of the image (default: the file beside it with the same name)")
    .option("--out <png>", "write the page with the answer's boxes")
    .option("--threads <n>", "threads", positive)
    .option("--stream", "show the answer while it is written")
    .option("--choices <a,b,c>", "no free answer: how likely each of these is, the likeliest first", listed)
    .addOption(new Option("--mode <mode>", "how tokens are chosen (default: greedy)").choices(generationModes))
    .option("--temperature <t>", "mode sample: below 1 closer to greedy, above 1 further from it", number)
    .option("--top-k <n>", "mode sample: only the n most likely tokens", number)
    .option("--top-p <share>", "mode sample: only the most likely tokens that reach this share together", number)
    .option("--seed <n>", "mode sample: another seed, another answer", number)
    .option("--beams <n>", "mode beam: how many (default: 4)", number)
    .option("--length-penalty <x>", "mode beam: 0 prefers short answers, more prefers longer ones (default: 1)", number)
    .option("--max-tokens <n>", "longest answer in tokens (default: 64)", number)
    .action(async (checkpoint: string, page: string, prompt: string, o: AskOptions) => {
      if (o.choices) return sayChoices(await choose(checkpoint, page, prompt, o.choices, o), output);
      const { page: _page, ...found } = await ask(checkpoint, page, prompt, { ...o, onToken: o.stream ? (token) => sayToken(token, output) : undefined }); // the page's bytes are no answer
      output.event({ event: "answer", ...found, ...(o.out ? { out: o.out } : {}) } as { event: string });
      if (o.stream && found.text) output.say("");
      else output.say(found.text || "(no answer)");
      if (o.out) output.say(`page with ${found.boxes.length} box${found.boxes.length === 1 ? "" : "es"}: ${o.out}`);
    });
}

function sayToken(token: { text: string }, output: Output): void {
  output.event({ event: "token", ...token } as { event: string });
  output.write(token.text);
}

function sayChoices({ choices, seconds }: { choices: AnswerScore[]; seconds: number }, output: Output): void {
  output.event({ event: "choices", choices, seconds } as { event: string });
  const widest = Math.max(...choices.map(({ answer }) => answer.length));
  for (const { answer, probability, logProbability } of choices) {
    output.say(`${answer.padEnd(widest)}  ${(100 * probability).toFixed(1).padStart(5)} %  log-probability ${logProbability.toFixed(3)}`);
  }
}

const listed = (text: string): string[] => text.split(",").map((one) => one.trim());

/** A number, for options. */
export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) throw new InvalidArgumentError("Expected a number.");
  return value;
}
