import type { Plugin } from "../../runtime/index.ts";
import { llamaDecoder } from "./llama.ts";

export const decoders: Plugin[] = [llamaDecoder];
