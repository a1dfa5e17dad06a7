import { rmSync } from 'node:fs';

export default async function stopPostgres(): Promise<void> {
  await globalThis.aqmTestPostgres.close();
  rmSync(globalThis.aqmTestPostgres.folder, { recursive: true, force: true });
}
