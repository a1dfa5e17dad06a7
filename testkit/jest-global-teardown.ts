/** The time that work left over by tests may delay a finished run, in milliseconds. */
const EXIT_TIMEOUT_MS = 10_000;

/** Stops the PostgreSQL of the run if a test has started it, removes its files, and ends the process unless it watches files. */
export default async function endRun({ watch, watchAll }: { watch: boolean; watchAll: boolean }): Promise<void> {
  await globalThis.aqmEndTestRun();
  if (watch || watchAll) return;
  // With nothing left to do, Node would still close what the tests left open, and now and then that never ends (it spins in
  // Environment::CleanupHandles, seen in Node 24.21). An explicit exit skips that step; jest has already set the exit code.
  process.once('beforeExit', () => process.exit());
  setTimeout(() => {
    console.error(`A test left this running: ${process.getActiveResourcesInfo().join(', ')}`);
    process.exit();
  }, EXIT_TIMEOUT_MS).unref();
}
