import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RuntimeError } from "../errors.ts";

/** Room for a name in `sockaddr_un` on Linux, without its closing zero. */
const longestPath = 107;

/** Links are up long before this; a younger folder may belong to a process of another process namespace, which /proc does not show. */
const orphanMs = 10 * 60_000;

/**
 * A folder that only this user may enter (0700), where the sockets of one run meet. It is under the system's temporary
 * folder because run folders may lie too deep for a socket's name. Empty as soon as all links are up; the owner removes it.
 * A folder whose owner was killed before that is removed by whoever makes the next one.
 */
export function createSocketFolder(): { path: string; remove(): void } {
  removeOrphans(tmpdir());
  const path = mkdtempSync(join(tmpdir(), `octavo-${process.pid}-`));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Folders of this user named after a process that is gone. */
function removeOrphans(folder: string): void {
  for (const name of readdirSync(folder)) {
    const owner = /^octavo-(\d+)-/.exec(name)?.[1];
    if (owner === undefined || existsSync(`/proc/${owner}`)) continue;
    const path = join(folder, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat?.uid === process.getuid?.() && stat!.mtimeMs < Date.now() - orphanMs) rmSync(path, { recursive: true, force: true });
  }
}

/** The meeting point of two nodes: the same name whoever asks. ERR_ADDRESS when it would be too long or the folder is open to others. */
export function socketPath(folder: string, a: string, b: string): string {
  const [lower, higher] = a < b ? [a, b] : [b, a];
  const path = join(folder, `${lower}--${higher}.sock`);
  if (Buffer.byteLength(path) > longestPath) {
    throw new RuntimeError("ERR_ADDRESS", `socket ${path}: ${Buffer.byteLength(path)} bytes, the system takes ${longestPath}. Use shorter node names or set TMPDIR to a shorter folder.`, { path });
  }
  const { mode, uid } = statSync(folder);
  if ((mode & 0o077) !== 0 || uid !== process.getuid?.()) {
    throw new RuntimeError("ERR_ADDRESS", `socket folder ${folder}: expected mode 0700 and this user as owner, got ${(mode & 0o777).toString(8)} of user ${uid}. ` +
      "Anyone who can enter it could read and send messages: make it with createSocketFolder().", { folder, mode: mode & 0o777, uid });
  }
  return path;
}
