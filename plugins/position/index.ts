import type { Plugin } from "../../runtime/index.ts";
import { fourier } from "./fourier.ts";

export const positions: Plugin[] = [fourier];
