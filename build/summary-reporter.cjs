const { appendFileSync } = require('node:fs');

/**
 * Ends every run of jest with one line that programs can read. With TEST_COUNTS_FILE it also appends the counts to that file, as
 * one line of JSON, from which `npm run check` sums them up over its runs.
 */
module.exports = class SummaryReporter {
  onRunComplete(_contexts, { numPassedTests, numFailedTests, numPendingTests, numRuntimeErrorTestSuites }) {
    const failed = numFailedTests + numRuntimeErrorTestSuites;
    const skipped = numPendingTests > 0 ? `, ${numPendingTests} skipped` : '';
    const file = process.env.TEST_COUNTS_FILE;
    if (file) appendFileSync(file, `${JSON.stringify({ passed: numPassedTests, failed, skipped: numPendingTests })}\n`);
    process.stdout.write(`${numPassedTests} passed, ${failed} failed${skipped}\n`);
  }
};
