import { rmSync } from 'node:fs';

/** How long what a test left running may hold a run whose results are all known, in milliseconds. */
const PATIENCE_MS = 10_000;

export default async function stopPostgres(): Promise<void> {
  await globalThis.aqmTestPostgres.close();
  rmSync(globalThis.aqmTestPostgres.folder, { recursive: true, force: true });
  // With nothing left to do, Node would still close what the tests left to it, and now and then that never ends (it spins in
  // Environment::CleanupHandles, seen in Node 24.21). An exit that is asked for does without. jest has set its code by then.
  process.once('beforeExit', () => process.exit());
  setTimeout(() => {
    console.error(`A test left this running: ${process.getActiveResourcesInfo().join(', ')}`);
    process.exit();
  }, PATIENCE_MS).unref();
}
