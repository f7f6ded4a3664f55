/** Mocha's spec reporter that also leaves its counts in the file OCTAVO_TEST_SUMMARY names. */
const { renameSync, writeFileSync } = require("node:fs");
const Mocha = require("mocha");

module.exports = class SummaryReporter extends Mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    runner.once("end", () => {
      const file = process.env.OCTAVO_TEST_SUMMARY;
      if (!file) return;
      const { passes, failures, pending } = this.stats;
      writeFileSync(`${file}.part`, JSON.stringify({ passed: passes, failed: failures, skipped: pending, endedAt: Date.now(), pid: process.pid }));
      renameSync(`${file}.part`, file);
    });
  }
};
