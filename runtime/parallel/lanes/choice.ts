import { readFileSync, readlinkSync } from "node:fs";
import { RuntimeError, nearest } from "../../errors.ts";
import { native } from "../../native.ts";
import { type LaneName, laneNames } from "./lanes.ts";

/** Where a process lives and what it can do, as far as lanes must know. Processes exchange it when they meet. */
export interface Whereabouts {
  /** Boot id and process namespace: equal for two processes that see the same `/proc`. */
  host: string;
  pid: number;
  user: number;
  /** Is libucp there, and why not. */
  ucx: { usable: boolean; reason?: string };
}

export function whereabouts(): Whereabouts {
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  const { usable, reason } = native().ucxInfo();
  return { host: `${boot} ${readlinkSync("/proc/self/ns/pid")}`, pid: process.pid, user: process.getuid?.() ?? -1, ucx: { usable, ...(reason === undefined ? {} : { reason }) } };
}

/** Why two processes cannot use a lane; "" when they can. */
const obstacles: Record<LaneName, (here: Whereabouts, there: Whereabouts) => string> = {
  "in-process": (here, there) => (here.host === there.host && here.pid === there.pid ? "" : "two processes"),
  "shared-memory": (here, there) => (here.host !== there.host ? "two hosts" : here.user !== there.user ? `users ${here.user} and ${there.user}` : ""),
  ucx: (here, there) => (here.ucx.usable ? there.ucx.usable ? "" : `at the other end: ${there.ucx.reason}` : here.ucx.reason ?? "not usable"),
  zeromq: () => "",
};

/** The lanes that two processes can use, best first. */
export function laneOffers(here: Whereabouts, there: Whereabouts): LaneName[] {
  return laneNames.filter((name) => obstacles[name](here, there) === "");
}

/** What could not be used and why, for people: "ucx: no libucp". That two processes are not one goes without saying. */
export function laneNotes(here: Whereabouts, there: Whereabouts): string[] {
  return laneNames.filter((name) => name !== "in-process").flatMap((name) => {
    const obstacle = obstacles[name](here, there);
    return obstacle === "" ? [] : [`${name}: ${obstacle}`];
  });
}

/** The best of the offers, or the wanted one. ERR_LANE when that is unknown or not offered. */
export function chooseLane(offers: readonly string[], wanted?: string): LaneName {
  if (wanted !== undefined && !(laneNames as readonly string[]).includes(wanted)) {
    const near = nearest(wanted, laneNames);
    throw new RuntimeError("ERR_LANE", `lane "${wanted}" is unknown${near ? `; did you mean "${near}"?` : "."} Lanes: ${laneNames.join(", ")}.`, { wanted });
  }
  const chosen = laneNames.find((name) => (wanted === undefined || name === wanted) && offers.includes(name));
  if (chosen) return chosen;
  throw new RuntimeError("ERR_LANE", `lane ${wanted ?? ""}: the two ends offer ${offers.join(", ") || "nothing in common"}. ` +
    "shared-memory needs one host and one user, in-process one process, ucx libucp at both ends (octavo doctor).", { wanted, offers });
}
