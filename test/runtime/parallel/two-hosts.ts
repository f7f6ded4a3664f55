/**
 * Two hosts on one machine: this one, and a network namespace joined to it by a pair of virtual ethernet devices, whose processes live in process
 * namespaces of their own, so that they cannot reach the memory of those here. Needs the rights of an administrator.
 */
import { spawnSync } from "node:child_process";

export interface TwoHosts {
  /** For `place` of startGroup: even ranks live here and share memory, odd ones each on a host of its own. */
  place(rank: number): { prefix?: string[]; address: string };
  remove(): void;
}

function run(command: string, ...words: string[]): string | undefined {
  const { status, stderr, error } = spawnSync(command, words, { encoding: "utf8" });
  return status === 0 ? undefined : `${command} ${words.join(" ")}: ${error?.message ?? stderr.trim()}`;
}

/** The hosts, or why they cannot be had here. */
export function twoHosts(): TwoHosts | string {
  const name = `octavo-${process.pid}`, [here, there] = ["a", "b"].map((end) => `ov${process.pid % 100_000}${end}`);
  const addresses = ["10.211.55.1", "10.211.55.2"], inside = ["ip", "netns", "exec", name, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
  const remove = (): void => void run("ip", "netns", "del", name); // takes both devices with it
  const steps = [
    ["ip", "netns", "add", name],
    ["ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name],
    ["ip", "addr", "add", `${addresses[0]}/24`, "dev", here],
    ["ip", "-n", name, "addr", "add", `${addresses[1]}/24`, "dev", there],
    ["ip", "link", "set", here, "up"], ["ip", "-n", name, "link", "set", there, "up"], ["ip", "-n", name, "link", "set", "lo", "up"],
    [...inside, "true"],
  ];
  for (const [command, ...words] of steps) {
    const refused = run(command, ...words);
    if (refused !== undefined) return remove(), refused;
  }
  return { place: (rank) => (rank % 2 === 0 ? { address: addresses[0] } : { prefix: inside, address: addresses[1] }), remove };
}
