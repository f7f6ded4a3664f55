#!/usr/bin/env node
import { main } from "./run.ts";

// Sockets, timers and the device thread may outlive the command: its answer is out, so the process ends.
process.exit(await main(process.argv.slice(2)));
