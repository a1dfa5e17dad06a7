import { rmSync } from 'node:fs';

/** How long what a test left running may hold a run whose results are all known, in milliseconds. */
const PATIENCE_MS = 10_000;

export default async function stopPostgres(): Promise<void> {
  await globalThis.aqmTestPostgres.close();
  rmSync(globalThis.aqmTestPostgres.folder, { recursive: true, force: true });
  // By then jest has set its exit code.
  setTimeout(() => {
    console.error(`A test left this running: ${process.getActiveResourcesInfo().join(', ')}`);
    process.exit();
  }, PATIENCE_MS).unref();
}
