/**
 * One per host: starts workers as its own children when told so, and says how each of them ended.
 *
 * AG-1: workers die with their agent; when the coordinator is lost the agent kills them and ends.
 * AG-2: the exit of a worker is reported with its code or signal, the end of its stderr, and its own error if it left one.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { availableParallelism, hostname } from "node:os";
import * as grpc from "@grpc/grpc-js";
import { realClock, RuntimeError, toFailure, type Clock, type WorkerHandle, type WorkerSpec } from "../../runtime/index.ts";
import { coordinatorService, credentialsOf, fromStatus, type AgentCommand, type AgentMessage, type RegisterReply, type Worker } from "../control/protocol.ts";
import type { Entry } from "../launcher/entries.ts";
import { startWorker } from "../launcher/local.ts";
import type { ChildExit } from "../launcher/process.ts";

export interface AgentOptions {
  coordinator: string;
  token: string;
  name: string;
  /** The program that becomes a worker; tests put a trivial one here. */
  worker?: Entry;
  clock?: Clock;
}
export interface Agent { /** Settles when the agent is over and no worker lives. */ closed: Promise<void>; close(): Promise<void> }

/** Registers and serves. Throws ERR_CLUSTER when the coordinator refuses or cannot be reached. */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { coordinator, token, name, clock = realClock } = options;
  const Service = coordinatorService();
  const stub = new Service(coordinator, grpc.credentials.createInsecure());
  const { heartbeatMs } = await register();
  const metadata = credentialsOf(token);
  metadata.set("agent", name);
  const session = stub.session(metadata) as grpc.ClientDuplexStream<AgentMessage, AgentCommand>;
  const workers = new Map<string, { worker: Worker; handle: WorkerHandle }>();
  let over = false;
  let cancelHeartbeat = (): void => {};

  const closed = new Promise<void>((resolve) => {
    const finish = async (): Promise<void> => {
      if (over) return;
      over = true;
      cancelHeartbeat();
      const living = [...workers.values()];
      for (const { handle } of living) handle.kill("SIGKILL");
      await Promise.all(living.map(({ handle }) => handle.exited));
      stub.close();
      resolve();
    };
    session.on("end", finish);
    session.on("error", finish);
  });
  session.on("data", (command: AgentCommand) => {
    if (command.spawn) void spawnWorker(command.spawn.workerId, command.spawn.worker);
    if (command.stop) stopWorker(command.stop);
    if (command.readLog) readLog(command.readLog);
  });
  beat(0);
  return {
    closed,
    async close() {
      session.cancel();
      await closed;
    },
  };

  function register(): Promise<RegisterReply> {
    const request = { name, host: hostname(), pid: process.pid, cores: availableParallelism() };
    return new Promise((resolve, reject) => {
      stub.register(request, credentialsOf(token), { deadline: Date.now() + 10_000 },
        (error: grpc.ServiceError | null, reply: RegisterReply) => (error ? reject(fromStatus(error, coordinator)) : resolve(reply)));
    });
  }

  function say(message: AgentMessage): void {
    if (!over) session.write(message);
  }

  function beat(sequence: number): void {
    say({ heartbeat: { sequence } });
    if (!over) cancelHeartbeat = clock.after(heartbeatMs, () => beat(sequence + 1));
  }

  async function spawnWorker(workerId: string, worker: Worker): Promise<void> {
    try {
      const handle = await startWorker(JSON.parse(worker.specJson) as WorkerSpec, options.worker);
      workers.set(workerId, { worker, handle });
      if (over) handle.kill("SIGKILL");
      say({ spawned: { workerId, pid: handle.pid } });
      const exit = (await handle.exited) as ChildExit;
      workers.delete(workerId);
      say({ exited: {
        workerId, stderrTail: exit.stderrTail, failureJson: exit.failure ? JSON.stringify(exit.failure) : "",
        ...(exit.code === null ? {} : { code: exit.code }), ...(exit.signal === null ? {} : { signal: exit.signal }),
      } });
    } catch (error) {
      say({ spawnFailed: { workerId, failureJson: JSON.stringify(toFailure(error)) } });
    }
  }

  function stopWorker({ requestId, workerId, signal }: { requestId: string; workerId: string; signal: string }): void {
    const found = workers.get(workerId);
    found?.handle.kill(signal as NodeJS.Signals);
    if (requestId) say({ stopped: { requestId, delivered: found !== undefined } });
  }

  function readLog({ requestId, workerId, maxBytes }: { requestId: string; workerId: string; maxBytes: number }): void {
    try {
      const found = workers.get(workerId);
      if (!found) throw new RuntimeError("ERR_CLUSTER", `Agent ${name} runs no worker ${workerId}; the log of an ended one is in the run folder.`, { worker: workerId });
      say({ logRead: { requestId, data: lastBytes((JSON.parse(found.worker.specJson) as WorkerSpec).logFile, maxBytes), failureJson: "" } });
    } catch (error) {
      say({ logRead: { requestId, data: new Uint8Array(), failureJson: JSON.stringify(toFailure(error)) } });
    }
  }
}

function lastBytes(path: string, maxBytes: number): Uint8Array {
  const file = openSync(path, "r");
  try {
    const size = fstatSync(file).size;
    const bytes = new Uint8Array(Math.min(size, Math.max(0, maxBytes)));
    readSync(file, bytes, 0, bytes.length, size - bytes.length);
    return bytes;
  } finally {
    closeSync(file);
  }
}
