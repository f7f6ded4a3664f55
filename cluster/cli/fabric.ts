/** `octavo doctor --fabric HOST`: which transports carry tensors between two machines, and how fast. */
import { spawn } from "node:child_process";
import { hostname, networkInterfaces } from "node:os";
import { Reply, Request } from "zeromq";
import { type FabricPeer, type FabricReading, type FabricReply, fabricSource, measureFabric } from "../../runtime/index.ts";
import { becomeChild } from "../agent/child.ts";
import { program } from "../launcher/entries.ts";
import type { Output } from "./output.ts";

/** Where `--fabric-listen` waits when it is given no port; InfiniBand's own tests use it too. */
export const fabricPort = 18515;

const [bytes, rounds, waitMs] = [64 * 2 ** 20, 8, 15_000];

/** Serves one asker after the other until it is told to stop. */
export async function listenFabric(port: number, output: Output, stop: AbortSignal): Promise<void> {
  becomeChild();
  const socket = new Reply({ linger: 0 });
  await socket.bind(`tcp://*:${port || "*"}`);
  const bound = Number(socket.lastEndpoint!.split(":").at(-1));
  output.event({ event: "fabric-listening", port: bound } as { event: string });
  output.say(`listening on port ${bound}; on the other machine: octavo doctor --fabric ${hostname()}:${bound}`);
  stop.addEventListener("abort", () => socket.close());
  const { answer, close } = fabricSource("listening");
  for await (const [asked] of socket) {
    const { attachments = [], ...reply } = await answer(JSON.parse(String(asked)));
    await socket.send([JSON.stringify(reply), ...attachments]);
  }
  close();
}

/** Asks the listener on another machine, or on this one, where it starts one itself. */
export async function showFabric(target: string, output: Output): Promise<void> {
  const [host, port] = [target.replace(/:\d+$/, ""), Number(/:(\d+)$/.exec(target)?.[1] ?? 0)];
  const local = port === 0 && isHere(host) ? await listener() : undefined;
  const at = `${local ? "127.0.0.1" : host}:${local?.port ?? (port || fabricPort)}`;
  const socket = new Request({ linger: 0, receiveTimeout: waitMs });
  socket.connect(`tcp://${at}`);
  const peer: FabricPeer = async (asked) => {
    await socket.send(JSON.stringify(asked));
    const [reply, ...attachments] = await socket.receive().catch((cause: unknown) => {
      throw new Error(`${at} does not answer. Run there: octavo doctor --fabric-listen ${fabricPort}`, { cause });
    });
    return { ...(JSON.parse(String(reply)) as FabricReply), attachments };
  };
  try {
    const { readings, notes: [here, there] } = await measureFabric(peer, { bytes, rounds });
    for (const reading of readings) output.event({ event: "fabric", host, ...reading } as { event: string });
    for (const [end, { ucx }] of [["here", here], ["there", there]] as const) if (!ucx.usable) output.say(`no ucx ${end}: ${ucx.reason}. sudo apt-get install -y libucx-dev, then npm run setup`);
    output.say(readings.map(line).join("\n"));
  } finally {
    socket.close();
    local?.end();
  }
}

function line({ lane, bytes, seconds, transports, counted }: FabricReading): string {
  const through = counted.filter((each) => each.bytes > bytes / 100).map((each) => `${each.device} counted ${(each.bytes / bytes).toFixed(2)} of the bytes`);
  return `${lane.padEnd(14)} ${(bytes / seconds / 1e9).toFixed(2).padStart(6)} GB/s  ${transports.length > 0 ? `by ${transports.join(" or ")}; ` : ""}${through.join(", ") || "no network device counted any"}`;
}

function isHere(host: string): boolean {
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses!.map(({ address }) => address));
  return ["localhost", hostname(), ...own].includes(host);
}

/** A second process of this machine that listens. */
async function listener(): Promise<{ port: number; end(): void }> {
  const { command, args } = program("cluster/cli/main");
  const child = spawn(command, [...args, "doctor", "--fabric-listen", "0", "--json"], { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, OCTAVO_PARENT_PID: String(process.pid) } });
  const port = await new Promise<number>((resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`the listening process ended with status ${code}`)));
    child.stdout.on("data", (chunk: Buffer) => {
      for (const text of String(chunk).split("\n").filter(Boolean)) {
        const event = JSON.parse(text) as { event: string; port: number };
        if (event.event === "fabric-listening") resolve(event.port);
      }
    });
  });
  return { port, end: () => void child.kill("SIGKILL") }; // it has nothing to say, and leaves nothing behind
}
