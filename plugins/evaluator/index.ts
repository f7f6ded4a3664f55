/** Answers against the truth. */
import type { Plugin } from "../../runtime/index.ts";
import { answers } from "./answers.ts";

export const evaluators: Plugin[] = [answers];
