import type { Plugin } from "../../runtime/index.ts";
import { coAttention } from "./co-attention.ts";
import { concatenation } from "./concatenation.ts";
import { multiway } from "./multiway.ts";

export const fusions: Plugin[] = [multiway, concatenation, coAttention];
