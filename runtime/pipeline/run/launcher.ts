/** How worker processes come to be. `cluster/launcher` implements it: child processes of this one, or processes of agents. */
export interface Launcher {
  readonly name: string;
  /** Starts one process per spec; resolves when all run (their links come later). Rejects, having stopped the others, when one cannot. */
  spawn(specs: readonly WorkerSpec[]): Promise<WorkerHandle[]>;
  /** Ends what is left of its processes and itself. */
  close(): Promise<void>;
}

export interface WorkerSpec {
  /** The rank's name in the schedule; of one stage, the stage's in the recipe. */
  name: string;
  /** What `ps` shows: `octavo worker image`. */
  title: string;
  runFolder: string;
  threads: number;
  /** Where its messages go first: the node that drives the run, and the folder of the sockets. */
  control: { node: string; socketDir: string };
  logFile: string;
}

export interface WorkerHandle {
  readonly name: string;
  readonly pid: number;
  readonly host: string;
  /** Resolves once the process is gone, with how it ended. Never rejects. */
  readonly exited: Promise<WorkerExit>;
  kill(signal?: string): void;
}

export interface WorkerExit { code: number | null; signal: string | null; stderrTail: string }
