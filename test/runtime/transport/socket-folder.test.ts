import assert from "node:assert/strict";
import { existsSync, mkdirSync, rmdirSync, statSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSocketFolder } from "../../../runtime/transport/socket-folder.ts";

describe("a socket folder", () => {
  it("is closed to others and goes when removed", () => {
    const folder = createSocketFolder();
    assert.equal(statSync(folder.path).mode & 0o777, 0o700);
    folder.remove();
    assert.ok(!existsSync(folder.path));
  });

  it("of a run that was killed before its links were up is removed by the next, that of a living or a young one is not", () => {
    const made = { dead: "octavo-4999999-dead", young: "octavo-4999999-young", living: `octavo-${process.pid}-living` };
    const old = new Date(Date.now() - 3600_000);
    for (const name of Object.values(made)) mkdirSync(join(tmpdir(), name), { mode: 0o700 });
    for (const name of [made.dead, made.living]) utimesSync(join(tmpdir(), name), old, old);
    const folder = createSocketFolder();
    const left = Object.values(made).filter((name) => existsSync(join(tmpdir(), name)));
    folder.remove();
    for (const name of left) rmdirSync(join(tmpdir(), name));
    assert.deepEqual(left, [made.young, made.living]);
  });
});
