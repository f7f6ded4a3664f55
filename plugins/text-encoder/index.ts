import type { Plugin } from "../../runtime/index.ts";
import { llamaEncoder } from "./llama.ts";

export const textEncoders: Plugin[] = [llamaEncoder];
