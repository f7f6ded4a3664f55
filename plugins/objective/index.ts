import type { Plugin } from "../../runtime/index.ts";
import { answer } from "./answer.ts";
import { causalLm } from "./causal-lm.ts";
import { contrastive } from "./contrastive.ts";
import { mimCodes } from "./mim-codes.ts";
import { mimTeacher } from "./mim-teacher.ts";
import { mlm } from "./mlm.ts";
import { mntp } from "./mntp.ts";
import { simcse } from "./simcse.ts";
import { vqKdLoss } from "./vq-kd.ts";
import { wpa } from "./wpa.ts";

export const objectives: Plugin[] = [mlm, mimTeacher, mimCodes, wpa, answer, vqKdLoss, contrastive, causalLm, mntp, simcse];
