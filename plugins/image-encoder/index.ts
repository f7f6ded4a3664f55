import type { Plugin } from "../../runtime/index.ts";
import { beit } from "./beit.ts";

export const imageEncoders: Plugin[] = [beit];
