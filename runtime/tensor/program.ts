import { RuntimeError, toFailure } from "../errors.ts";
import { native } from "../native.ts";
import { type DType, type HostTensor, type Shape, toHostArray } from "./dtype.ts";
import { noRoomToReplay } from "./room.ts";
import { enteredScope, refusePromise } from "./scope.ts";
import { Tensor, liveHandle } from "./tensor.ts";

export type NamedTensors = Record<string, Tensor>;
/** A tensor, or what would be uploaded to make one. */
export type Input = Tensor | HostTensor;

interface Form { name: string; shape: Shape; dtype: DType; size: number }

/** One recorded run of a piece of work: natively a list of commands, replayed as one. */
export class Program {
  constructor(readonly number: number, readonly outputs: readonly Form[]) {}

  /** What another recording did otherwise; "" when it did the same. */
  difference(other: Program): string {
    const names = (program: Program) => program.outputs.map(({ name }) => name).join(", ");
    if (names(this) !== names(other)) return `the outputs were ${names(this)}, the second time ${names(other)}`;
    return native().programDifference(this.number, other.number);
  }

  /** Runs the commands with other inputs of the same shapes; the outputs belong to the entered scope, else to the caller. */
  replay(inputs: readonly Input[]): NamedTensors {
    const given = inputs.map((input, i) => (input instanceof Tensor ? liveHandle(input, "replay", i) : toHostArray(input.data, input.dtype)));
    const handles = this.#enqueue(given);
    const outputs: NamedTensors = {};
    for (let i = 0; i < handles.length; i++) {
      const { name, shape, dtype, size } = this.outputs[i];
      outputs[name] = new Tensor(handles[i], shape, dtype, size);
    }
    return outputs;
  }

  #enqueue(given: readonly (number | ArrayBufferView)[]): number[] {
    try {
      return native().replay(this.number, given);
    } catch (error) {
      throw error instanceof RuntimeError && error.code === "ERR_MEMORY" ? noRoomToReplay(this.number, error) : error;
    }
  }

  /** False once it was dropped, or a tensor from outside that it uses was freed. */
  get exists(): boolean {
    return native().programExists(this.number);
  }

  drop(): void {
    native().programDrop(this.number);
  }
}

/** While work is recorded. */
let recording: { refused?: string } | undefined;

/** Is work being recorded now? */
export const isRecording = (): boolean => recording !== undefined;

/**
 * Says that what runs now depends on something that no input carries, so that no recording of it may be replayed. Nothing happens
 * when nothing is recorded. The first reason counts.
 */
export function refuseRecording(reason: string): void {
  if (recording) recording.refused ??= reason;
}

/**
 * Runs `work` as always, and records it. Gives its outputs, and the program or why there is none; what `work` itself throws is thrown.
 * Everything it makes must be freed inside, by scopes, or be an output.
 */
export function record(inputs: readonly Tensor[], work: () => NamedTensors): { outputs: NamedTensors; program?: Program; refused?: string } {
  try {
    native().recordBegin(inputs.map((tensor, i) => liveHandle(tensor, "record", i)));
  } catch (thrown) {
    const refused = compileFailure(thrown);
    return { outputs: work(), refused };
  }
  const state: { refused?: string } = recording = {};
  let outputs: NamedTensors, handles: number[];
  try {
    outputs = refusePromise(work(), "record");
    handles = Object.values(outputs).map((tensor) => liveHandle(tensor, "record", "output"));
  } catch (thrown) {
    native().recordEnd();
    throw thrown;
  } finally {
    recording = undefined;
  }
  if (state.refused !== undefined) {
    native().recordEnd();
    return { outputs, refused: state.refused };
  }
  const forms = Object.entries(outputs).map(([name, { shape, dtype, size }]) => ({ name, shape, dtype, size }));
  try {
    return { outputs, program: new Program(native().recordEnd(handles), forms) };
  } catch (thrown) {
    return { outputs, refused: compileFailure(thrown) };
  }
}

/** The message of an ERR_COMPILE; anything else is a mistake and goes on. */
function compileFailure(thrown: unknown): string {
  const { code, message } = toFailure(thrown);
  if (code !== "ERR_COMPILE") throw thrown;
  return message;
}

/** Outputs belong to whoever has entered a scope, as they do after a replay. */
export function adoptOutputs(outputs: NamedTensors): NamedTensors {
  const scope = enteredScope();
  for (const tensor of Object.values(outputs)) {
    if (scope) scope.adopt(tensor);
    else tensor.scope?.keep(tensor);
  }
  return outputs;
}
