import { z } from "zod";
import { readYamlFile } from "../yaml-file.ts";

const clusterFile = z.strictObject({
  /** `local`: a coordinator and agents as processes of this machine. */
  launcher: z.enum(["local"]),
  agents: z.int().min(1).max(64).default(2),
  /** Of the coordinator, on the loopback interface; 0 lets the system choose. */
  port: z.int().min(0).max(65535).default(0),
});

export type ClusterDescription = z.output<typeof clusterFile>;

/** Reads what `--on` names. Throws ERR_INPUT with file and line. */
export function loadClusterFile(path: string): ClusterDescription {
  return readYamlFile(path, clusterFile, Object.keys(clusterFile.shape));
}
