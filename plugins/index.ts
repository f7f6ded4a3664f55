/** The built-in catalogue: every plugin that a recipe can name without a package, and what people use of them directly. */
import type { Plugin } from "../runtime/index.ts";
import { dataLoaders } from "./data-loader/index.ts";
import { decoders } from "./decoder/index.ts";
import { evaluators } from "./evaluator/index.ts";
import { fusions } from "./fusion/index.ts";
import { imageEncoders } from "./image-encoder/index.ts";
import { objectives } from "./objective/index.ts";
import { optimizers } from "./optimizer/index.ts";
import { positions } from "./position/index.ts";
import { promptEncoders } from "./prompt-encoder/index.ts";
import { tasks } from "./task/index.ts";
import { teachers } from "./teacher/index.ts";
import { textEncoders } from "./text-encoder/index.ts";
import { tokenizers } from "./tokenizer/index.ts";
import { trackers } from "./tracker/index.ts";
import { visualTokenizers } from "./visual-tokenizer/index.ts";

export const builtins: Plugin[] = [
  ...dataLoaders, ...tokenizers, ...teachers, ...visualTokenizers, ...imageEncoders, ...textEncoders, ...positions, ...fusions,
  ...promptEncoders, ...decoders, ...objectives, ...optimizers, ...evaluators, ...tasks, ...trackers,
];

export { drawBoxes, readPage, readPdfPage, writePageWithBoxes, type DrawOptions } from "./data-loader/index.ts";
export { readByteBpe, readHuggingFace, trainByteBpe, type TokenizerFile } from "./tokenizer/index.ts";
