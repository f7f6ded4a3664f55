/** `octavo.proto` for TypeScript: the loaded service, the shapes of its messages, tokens, and errors that keep their code on the wire. */
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { fromFailure, RuntimeError, toFailure, type FailureData } from "../../runtime/index.ts";
import { fromSource, packageRoot } from "../launcher/entries.ts";

export interface Worker { name: string; title: string; threads: number; specJson: string }
export interface RegisterRequest { name: string; host: string; pid: number; cores: number }
export interface RegisterReply { heartbeatMs: number }
export interface WorkerExited { workerId: string; code?: number; signal?: string; stderrTail: string; failureJson: string }
export interface Placement { workerId: string; agent: string; host: string; pid: number }
export interface LaunchReply { launchId: string; placements: Placement[] }
export interface AgentInfo { name: string; host: string; pid: number; cores: number; workers: number; threads: number }

/** Exactly one of the keys is set: a protobuf `oneof`. */
export interface AgentMessage {
  heartbeat?: { sequence: number };
  spawned?: { workerId: string; pid: number };
  spawnFailed?: { workerId: string; failureJson: string };
  exited?: WorkerExited;
  logRead?: { requestId: string; data: Uint8Array; failureJson: string };
  stopped?: { requestId: string; delivered: boolean };
}
export interface AgentCommand {
  spawn?: { workerId: string; worker: Worker };
  stop?: { requestId: string; workerId: string; signal: string };
  readLog?: { requestId: string; workerId: string; maxBytes: number };
}

/** The proto file lies beside this source, and in `dist/cluster/control` of the built package. */
export const protoFile = join(packageRoot(), ...(fromSource ? [] : ["dist"]), "cluster", "control", "octavo.proto");

grpc.setLogVerbosity(grpc.logVerbosity.NONE); // what it would print reaches our callers as an error

let loaded: grpc.ServiceClientConstructor | undefined;

export function coordinatorService(): grpc.ServiceClientConstructor {
  if (!loaded) {
    const definition = loadSync(protoFile, { keepCase: false, longs: Number, enums: String, defaults: true, oneofs: false });
    const tree = grpc.loadPackageDefinition(definition) as unknown as { octavo: { v1: { Coordinator: grpc.ServiceClientConstructor } } };
    loaded = tree.octavo.v1.Coordinator;
  }
  return loaded;
}

export const loopback = "127.0.0.1";

/** Commands between the launcher, the coordinator and its agents are refused without the run's token. */
export const tokenVariable = "OCTAVO_CLUSTER_TOKEN";

export function credentialsOf(token: string): grpc.Metadata {
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  return metadata;
}

export function carriesToken(metadata: grpc.Metadata, token: string): boolean {
  return metadata.get("authorization")[0] === `Bearer ${token}`;
}

const failureKey = "octavo-failure-bin";

/** An error as a gRPC status that keeps code, details and causes in its trailing metadata. */
export function toStatus(thrown: unknown, code = grpc.status.FAILED_PRECONDITION): Partial<grpc.StatusObject> {
  const { stack: _, ...failure } = toFailure(thrown);
  const metadata = new grpc.Metadata();
  metadata.set(failureKey, Buffer.from(JSON.stringify(failure)));
  return { code, details: failure.message, metadata };
}

/** The inverse, at the caller: our own error, or ERR_CLUSTER when the connection itself failed. */
export function fromStatus(error: grpc.ServiceError, address: string): RuntimeError {
  const carried = error.metadata?.get(failureKey)[0];
  if (carried instanceof Buffer) return fromFailure(JSON.parse(carried.toString()) as FailureData);
  return new RuntimeError("ERR_CLUSTER", `coordinator at ${address}: ${grpc.status[error.code] ?? error.code}, ${error.details}. Is it still running?`,
    { address, status: error.code }, { cause: error });
}
