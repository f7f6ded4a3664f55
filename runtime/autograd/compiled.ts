import { RuntimeError } from "../errors.ts";
import { type Input, type NamedTensors, type Program, Scope, Tensor, adoptOutputs, fromArray, isRecording, record } from "../tensor/index.ts";
import { recordingTape } from "./tape.ts";

export interface CompiledOptions {
  /** Signatures remembered; the one unused for longest is forgotten first. 4 by default. */
  limit?: number;
  /** Told once per signature that cannot be compiled. */
  onRefused?(reason: string): void;
}

export interface CompiledStatistics {
  /** Calls that ran their work and recorded it. */
  recorded: number;
  replayed: number;
  /** Calls that ran their work unrecorded: signatures new or refused, or inside a tape or another recording. */
  eager: number;
  /** Why signatures were refused, in order. */
  refused: readonly string[];
}

type Entry = { program?: Program; state: "recorded" | "verified" | "refused" };

/** Signatures seen once that are remembered without a program. */
const mostSeen = 64;

/**
 * Work that is run when its inputs' shapes come for the first time, recorded the second time, recorded again and compared the third, and
 * replayed natively from the fourth.
 *
 * CS-1: every call gives the bits that running the work gives. Two recordings that differ refuse the signature: its calls stay eager.
 *       The first run of a signature is not recorded: it may prepare something, and shapes that never come again cost nothing.
 * CS-2: the work depends on its inputs, on tensors from outside (parameters, states; it may change them in place) and on the key
 *       alone; what it makes and does not return does not outlive it.
 * CS-3: outputs are new tensors each time, owned by the entered scope, else by the caller.
 * CS-4: nothing is recorded or replayed inside a tape or another recording: those see every op, and the entered scope owns what the
 *       work makes, for the tape may need it.
 * CS-5: inputs on the host are uploaded where `make` runs, and travel with the replay otherwise. What is uploaded lives as long as the work (under CS-4 as long as the entered scope).
 */
export class Compiled {
  readonly #entries = new Map<string, Entry>();
  readonly #seen = new Set<string>();
  readonly #limit: number;
  #recorded = 0;
  #replayed = 0;
  #eager = 0;
  readonly #refused: string[] = [];

  constructor(readonly name: string, private readonly o: CompiledOptions = {}) {
    this.#limit = o.limit ?? 4;
    if (!(Number.isInteger(this.#limit) && this.#limit > 0)) {
      throw new RuntimeError("ERR_INPUT", `${name}: limit expected one signature or more, got ${this.#limit}. Leave it out for 4.`, { limit: this.#limit });
    }
  }

  get statistics(): CompiledStatistics {
    return { recorded: this.#recorded, replayed: this.#replayed, eager: this.#eager, refused: [...this.#refused] };
  }

  /** `key` stands for everything but tensors that the work depends on. What the work makes is freed but for what it returns (CS-4 apart). */
  run(inputs: Record<string, Input>, make: (tensors: NamedTensors) => NamedTensors, key = ""): NamedTensors {
    if (recordingTape() || isRecording()) return this.#runEagerly(() => make(uploaded(inputs)));
    const signature = signatureOf(inputs, key);
    const entry = this.#entry(signature);
    if (entry?.state === "verified") {
      this.#replayed++;
      return entry.program!.replay(Object.values(inputs));
    }
    const own = new Scope(`inputs of ${this.name}`);
    try {
      const tensors = own.enter(() => uploaded(inputs)), work = (): NamedTensors => this.#keepingOutputs(() => make(tensors));
      if (entry?.state === "refused" || (!entry && this.#firstSight(signature))) return this.#runEagerly(work);
      return this.#record(signature, entry, Object.values(tensors), work);
    } finally {
      own.close();
    }
  }

  /** Forgets all programs. It may be used again. */
  clear(): void {
    for (const { program } of this.#entries.values()) program?.drop();
    this.#entries.clear();
    this.#seen.clear();
  }

  #firstSight(signature: string): boolean {
    if (this.#seen.delete(signature)) return false;
    this.#seen.add(signature);
    if (this.#seen.size > mostSeen) this.#seen.delete(this.#seen.values().next().value!);
    return true;
  }

  #keepingOutputs(work: () => NamedTensors): NamedTensors {
    const scope = new Scope(this.name);
    try {
      const outputs = scope.enter(work);
      for (const tensor of Object.values(outputs)) if (tensor.scope === scope) scope.keep(tensor);
      return outputs;
    } finally {
      scope.close();
    }
  }

  #runEagerly(work: () => NamedTensors): NamedTensors {
    this.#eager++;
    return adoptOutputs(work());
  }

  #record(signature: string, before: Entry | undefined, inputs: readonly Tensor[], work: () => NamedTensors): NamedTensors {
    this.#recorded++;
    const { outputs, program, refused } = record(inputs, work);
    const difference = program && before ? before.program!.difference(program) : "";
    before?.program!.drop();
    if (refused !== undefined || difference !== "") {
      program?.drop();
      this.#refuse(signature, refused ?? difference);
    } else this.#remember(signature, { program, state: before ? "verified" : "recorded" });
    return adoptOutputs(outputs);
  }

  #refuse(signature: string, reason: string): void {
    this.#remember(signature, { state: "refused" });
    const message = `${this.name} is not compiled: ${reason}`;
    this.#refused.push(message);
    this.o.onRefused?.(message);
  }

  /** What is known about a signature. A program ends with the tensors from outside that it uses: then it is recorded afresh. */
  #entry(signature: string): Entry | undefined {
    const entry = this.#entries.get(signature);
    if (!entry) return undefined;
    this.#entries.delete(signature);
    if (entry.program && !entry.program.exists) return undefined;
    this.#entries.set(signature, entry); // the last of the map is the one used last
    return entry;
  }

  #remember(signature: string, entry: Entry): void {
    this.#entries.delete(signature);
    this.#entries.set(signature, entry);
    if (this.#entries.size <= this.#limit) return;
    const [oldest, { program }] = this.#entries.entries().next().value!;
    program?.drop();
    this.#entries.delete(oldest);
  }
}

function uploaded(inputs: Record<string, Input>): NamedTensors {
  return Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input instanceof Tensor ? input : fromArray(input.data, input.shape, input.dtype)]));
}

function signatureOf(inputs: Record<string, Input>, key: string): string {
  let signature = key;
  for (const name of Object.keys(inputs)) {
    const { dtype, shape } = inputs[name];
    signature += `|${name}:${dtype}:${shape.join(",")}`;
  }
  return signature;
}
