/** What the tests of schedules share. */
import assert from "node:assert/strict";
import { RuntimeError } from "../../../runtime/errors.ts";
import type { ScheduleEdge, ScheduleStage } from "../../../runtime/pipeline/schedule/schedule.ts";

export interface Layout { stages: ScheduleStage[]; edges: ScheduleEdge[] }

/** The error with which `work` refuses a schedule. */
export function refusal(work: () => unknown): RuntimeError {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof RuntimeError && error.code === "ERR_SCHEDULE", String(error));
    return error;
  }
  return assert.fail("the schedule was accepted");
}
