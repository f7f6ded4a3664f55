import type { FailureData } from "../errors.ts";

/** Restarts the actors spawned under it, one for one, within a budget. */
export interface Supervisor {
  readonly name: string;
  readonly intensity: RestartIntensity;
}

/** At most `max` restarts within `withinMs`; one more and the supervisor gives up and fails its owner. */
export interface RestartIntensity {
  max: number;
  withinMs: number;
}

export interface SupervisorOptions {
  name: string;
  strategy?: "one-for-one";
  intensity?: RestartIntensity;
  onRestart?(event: { address: string; failure: FailureData; restarts: number }): void;
}

export declare function createSupervisor(options: SupervisorOptions): Supervisor;
