/** Where the events of a run go. */
import type { Plugin } from "../../runtime/index.ts";
import { consoleTracker } from "./console.ts";
import { jsonLines } from "./json-lines.ts";

export const trackers: Plugin[] = [consoleTracker, jsonLines];
