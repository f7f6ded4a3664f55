import * as grpc from "@grpc/grpc-js";
import { fromStatus, coordinatorService, credentialsOf, type AgentInfo, type LaunchReply, type Worker, type WorkerExited } from "./protocol.ts";

/** The coordinator as its clients see it. Every call has a deadline; errors are RuntimeErrors. */
export interface CoordinatorClient {
  launch(workers: Worker[]): Promise<LaunchReply>;
  /** Tells each exit; settles when all workers of the launch have ended, rejects when the coordinator is lost. */
  watch(launchId: string, onExit: (exit: WorkerExited) => void): Promise<void>;
  stop(workerId: string, signal: string): Promise<boolean>;
  readLog(workerId: string, maxBytes: number): Promise<Uint8Array>;
  listAgents(): Promise<AgentInfo[]>;
  close(): void;
}

type Unary = (request: unknown, metadata: grpc.Metadata, options: grpc.CallOptions, reply: (error: grpc.ServiceError | null, value: unknown) => void) => void;

export function connectCoordinator(address: string, token: string): CoordinatorClient {
  const Service = coordinatorService();
  const stub = new Service(address, grpc.credentials.createInsecure());

  function call<Reply>(method: string, request: unknown, deadlineMs = 10_000): Promise<Reply> {
    return new Promise((resolve, reject) => {
      (stub[method] as Unary).call(stub, request, credentialsOf(token), { deadline: Date.now() + deadlineMs },
        (error, value) => (error ? reject(fromStatus(error, address)) : resolve(value as Reply)));
    });
  }

  return {
    launch: (workers) => call<LaunchReply>("launch", { workers }, 60_000),
    stop: async (workerId, signal) => (await call<{ delivered: boolean }>("stop", { workerId, signal })).delivered,
    readLog: async (workerId, maxBytes) => (await call<{ data: Uint8Array }>("readLog", { workerId, maxBytes })).data,
    listAgents: async () => (await call<{ agents: AgentInfo[] }>("listAgents", {})).agents,
    watch(launchId, onExit) {
      const stream = stub.watch({ launchId }, credentialsOf(token)) as grpc.ClientReadableStream<WorkerExited>;
      return new Promise((resolve, reject) => {
        stream.on("data", onExit);
        stream.on("end", resolve);
        stream.on("error", (error) => reject(fromStatus(error as grpc.ServiceError, address)));
      });
    },
    close: () => stub.close(),
  };
}
