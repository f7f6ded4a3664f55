/** Text to ids and back, and the training of a small vocabulary. Start reading at `byte-bpe.ts`. */
import type { Plugin } from "../../runtime/index.ts";
import { byteBpe } from "./byte-bpe.ts";
import { huggingFace } from "./hugging-face.ts";

export { readByteBpe } from "./byte-bpe.ts";
export { readHuggingFace } from "./hugging-face.ts";
export { encodeByteBpe, trainByteBpe, type TokenizerFile } from "./train.ts";

export const tokenizers: Plugin[] = [byteBpe, huggingFace];
