/**
 * The one place that knows which agents live and which workers run where.
 *
 * CO-1: every launched worker's end is reported exactly once to the watcher of its launch: as its agent saw it, or as lost with its agent.
 * CO-2: an agent is lost when its session ends, or when no heartbeat came for `lostAfterMs`.
 * CO-3: a launch places all of its workers or none; those already started are killed when another cannot start.
 * CO-4: a call without the run's token is refused and changes nothing.
 */
import * as grpc from "@grpc/grpc-js";
import { fromFailure, realClock, RuntimeError, toFailure, type Clock, type FailureData } from "../../runtime/index.ts";
import { place } from "./placement.ts";
import {
  carriesToken, coordinatorService, loopback, toStatus,
  type AgentCommand, type AgentInfo, type AgentMessage, type LaunchReply, type Placement, type RegisterReply, type RegisterRequest, type Worker, type WorkerExited,
} from "./protocol.ts";

export interface CoordinatorOptions {
  token: string;
  /** 0: the system chooses a free one. */
  port?: number;
  host?: string;
  heartbeatMs?: number;
  lostAfterMs?: number;
  clock?: Clock;
}
export interface Coordinator { address: string; agents(): AgentInfo[]; close(): Promise<void> }

interface AgentRecord extends RegisterRequest {
  session?: grpc.ServerDuplexStream<AgentMessage, AgentCommand>;
  workers: Map<string, WorkerRecord>;
  cancelDeadline: () => void;
}
interface WorkerRecord { id: string; worker: Worker; agent: AgentRecord; launch: LaunchRecord; pid: number; exit?: WorkerExited; started: (failure?: FailureData) => void }
interface LaunchRecord { id: string; workers: WorkerRecord[]; watchers: Set<grpc.ServerWritableStream<unknown, WorkerExited>> }
type Answer = (failure?: FailureData, value?: AgentMessage) => void;

/** Starts listening. Throws ERR_CLUSTER when the port is taken. */
export async function startCoordinator(options: CoordinatorOptions): Promise<Coordinator> {
  const { token, clock = realClock, heartbeatMs = 1000, lostAfterMs = 5000, host = loopback } = options;
  const agents = new Map<string, AgentRecord>();
  const launches = new Map<string, LaunchRecord>();
  const workers = new Map<string, WorkerRecord>();
  const questions = new Map<string, { agent: AgentRecord; answer: Answer }>();
  let nextId = 1;

  const server = new grpc.Server();
  server.addService(coordinatorService().service, {
    register: unary((request: RegisterRequest): RegisterReply => {
      if (agents.has(request.name)) {
        throw new RuntimeError("ERR_CLUSTER", `An agent named ${request.name} is registered and alive; give this one another --name.`, { agent: request.name });
      }
      const agent: AgentRecord = { ...request, workers: new Map(), cancelDeadline: () => {} };
      agents.set(agent.name, agent);
      expectSign(agent);
      return { heartbeatMs };
    }),
    session: (call: grpc.ServerDuplexStream<AgentMessage, AgentCommand>) => {
      const agent = agents.get(String(call.metadata.get("agent")[0]));
      if (!carriesToken(call.metadata, token) || !agent || agent.session) {
        call.emit("error", toStatus(new RuntimeError("ERR_CLUSTER", "A session needs the run's token and a registered agent without a session."), grpc.status.UNAUTHENTICATED));
        return;
      }
      agent.session = call;
      call.on("data", (message: AgentMessage) => hear(agent, message));
      for (const event of ["end", "error", "cancelled"]) call.on(event, () => lose(agent, "its connection ended"));
    },
    launch: unary((request: { workers: Worker[] }) => launch(request.workers)),
    watch: (call: grpc.ServerWritableStream<{ launchId: string }, WorkerExited>) => {
      const found = launches.get(call.request.launchId);
      if (!carriesToken(call.metadata, token) || !found) {
        call.emit("error", toStatus(new RuntimeError("ERR_CLUSTER", `No launch ${call.request.launchId} of this run.`), grpc.status.NOT_FOUND));
        return;
      }
      found.watchers.add(call);
      call.on("cancelled", () => found.watchers.delete(call));
      for (const worker of found.workers) if (worker.exit) call.write(worker.exit);
      endIfOver(found);
    },
    stop: unary(async (request: { workerId: string; signal: string }) => {
      const worker = find(request.workerId);
      if (worker.exit) return { delivered: false };
      const reply = await ask(worker.agent, (requestId) => ({ stop: { requestId, ...request } }));
      return { delivered: reply.stopped?.delivered ?? false };
    }),
    readLog: unary(async (request: { workerId: string; maxBytes: number }) => {
      const reply = await ask(find(request.workerId).agent, (requestId) => ({ readLog: { requestId, ...request } }));
      if (reply.logRead?.failureJson) throw fromFailure(JSON.parse(reply.logRead.failureJson) as FailureData);
      return { data: reply.logRead?.data ?? new Uint8Array() };
    }),
    listAgents: unary(() => ({ agents: describeAgents() })),
  });
  const port = await listen(server, host, options.port ?? 0);

  return {
    address: `${host}:${port}`,
    agents: describeAgents,
    async close() {
      for (const agent of [...agents.values()]) lose(agent, "the coordinator was closed");
      server.forceShutdown();
    },
  };

  async function launch(wanted: Worker[]): Promise<LaunchReply> {
    const ready = [...agents.values()].filter((agent) => agent.session);
    if (!ready.length) throw new RuntimeError("ERR_CLUSTER", "No agent is connected: start one with `octavo agent` before launching workers.");
    const record: LaunchRecord = { id: `launch-${nextId++}`, workers: [], watchers: new Set() };
    launches.set(record.id, record);
    const choice = place(wanted, ready.map(loadOf));
    const outcomes = await Promise.all(wanted.map((worker, i) => new Promise<FailureData | undefined>((started) => {
      const one: WorkerRecord = { id: `worker-${nextId++}`, worker, agent: ready[choice[i]], launch: record, pid: 0, started };
      record.workers.push(one);
      workers.set(one.id, one);
      one.agent.workers.set(one.id, one);
      tell(one.agent, { spawn: { workerId: one.id, worker } });
    })));
    const failure = outcomes.find((outcome) => outcome);
    if (failure) {
      for (const one of record.workers) if (!one.exit) tell(one.agent, { stop: { requestId: "", workerId: one.id, signal: "SIGKILL" } });
      throw fromFailure(failure);
    }
    return { launchId: record.id, placements: record.workers.map((one): Placement => ({ workerId: one.id, agent: one.agent.name, host: one.agent.host, pid: one.pid })) };
  }

  function hear(agent: AgentRecord, message: AgentMessage): void {
    expectSign(agent);
    const worker = workers.get(message.spawned?.workerId ?? message.spawnFailed?.workerId ?? message.exited?.workerId ?? "");
    if (message.spawned && worker) {
      worker.pid = message.spawned.pid;
      worker.started();
    } else if (message.spawnFailed && worker) {
      const failure = JSON.parse(message.spawnFailed.failureJson) as FailureData;
      end(worker, { workerId: worker.id, stderrTail: "", failureJson: message.spawnFailed.failureJson });
      worker.started(failure);
    } else if (message.exited && worker) {
      end(worker, message.exited);
    } else {
      const requestId = message.logRead?.requestId ?? message.stopped?.requestId ?? "";
      questions.get(requestId)?.answer(undefined, message);
      questions.delete(requestId);
    }
  }

  function ask(agent: AgentRecord, command: (requestId: string) => AgentCommand): Promise<AgentMessage> {
    return new Promise((resolve, reject) => {
      if (!agents.has(agent.name) || !agent.session) return reject(lostError(agent, "it is gone"));
      const requestId = `request-${nextId++}`;
      questions.set(requestId, { agent, answer: (failure, value) => (failure ? reject(fromFailure(failure)) : resolve(value!)) });
      tell(agent, command(requestId));
    });
  }

  /** To a lost agent there is nothing to say: its workers have ended for us. */
  function tell(agent: AgentRecord, command: AgentCommand): void {
    if (agents.get(agent.name) === agent) agent.session?.write(command);
  }

  /** Any message is a sign of life; without one for `lostAfterMs` the agent counts as lost. */
  function expectSign(agent: AgentRecord): void {
    agent.cancelDeadline();
    agent.cancelDeadline = clock.after(lostAfterMs, () => lose(agent, `it sent nothing for ${lostAfterMs} ms`));
  }

  function lose(agent: AgentRecord, why: string): void {
    if (agents.get(agent.name) !== agent) return;
    agents.delete(agent.name);
    agent.cancelDeadline();
    agent.session?.end(); // a frozen agent that wakes finds its session over, kills its workers and exits
    const failure = toFailure(lostError(agent, why));
    for (const worker of agent.workers.values()) {
      end(worker, { workerId: worker.id, stderrTail: "", failureJson: JSON.stringify(failure) });
      worker.started(failure);
    }
    for (const [id, question] of questions) {
      if (question.agent !== agent) continue;
      questions.delete(id);
      question.answer(failure);
    }
  }

  function end(worker: WorkerRecord, exit: WorkerExited): void {
    if (worker.exit) return;
    worker.exit = exit;
    worker.agent.workers.delete(worker.id);
    for (const watcher of worker.launch.watchers) watcher.write(exit);
    endIfOver(worker.launch);
  }

  function endIfOver(record: LaunchRecord): void {
    if (!record.workers.every((worker) => worker.exit)) return;
    for (const watcher of record.watchers) watcher.end();
    record.watchers.clear();
  }

  function find(id: string): WorkerRecord {
    const worker = workers.get(id);
    if (!worker) throw new RuntimeError("ERR_CLUSTER", `No worker ${id} in this run.`, { worker: id });
    return worker;
  }

  function describeAgents(): AgentInfo[] {
    return [...agents.values()].filter((agent) => agent.session).map((agent) => ({ name: agent.name, host: agent.host, pid: agent.pid, ...loadOf(agent) }));
  }

  /** A handler that checks the token, and whose thrown errors reach the caller with their code. */
  function unary<Request, Reply>(handle: (request: Request) => Reply | Promise<Reply>): grpc.handleUnaryCall<Request, Reply> {
    return (call, reply) => {
      if (!carriesToken(call.metadata, token)) {
        reply(toStatus(new RuntimeError("ERR_CLUSTER", "The call carries no valid token of this run."), grpc.status.UNAUTHENTICATED));
        return;
      }
      Promise.resolve().then(() => handle(call.request)).then((value) => reply(null, value), (error) => reply(toStatus(error)));
    };
  }
}

function loadOf(agent: AgentRecord): { workers: number; threads: number; cores: number } {
  const running = [...agent.workers.values()];
  return { workers: running.length, threads: running.reduce((sum, one) => sum + one.worker.threads, 0), cores: Math.max(1, agent.cores) };
}

function lostError(agent: AgentRecord, why: string): RuntimeError {
  return new RuntimeError("ERR_CLUSTER", `Agent ${agent.name} on ${agent.host} (process ${agent.pid}) was lost: ${why}. Its workers die with it.`, { agent: agent.name, host: agent.host, pid: agent.pid });
}

function listen(server: grpc.Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(`${host}:${port}`, grpc.ServerCredentials.createInsecure(), (error, bound) => {
      if (!error) return resolve(bound);
      const taken = error.message.includes("EADDRINUSE");
      reject(new RuntimeError("ERR_CLUSTER", taken
        ? `Port ${port} on ${host} is in use by another process. Choose another port, or 0 to let the system choose.`
        : `The coordinator cannot listen on ${host}:${port} (${error.message}).`, { host, port }, { cause: error }));
    });
  });
}
