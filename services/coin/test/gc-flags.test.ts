import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AQM } from '../../../testkit/service-process';
import { createDatabase } from '../../../testkit/test-database';

/** Some 0.2 s after its start a service without these flags looks for the first time. */
const LOOKED_BY_THEN_MS = 1000;

test('V8 never begins to wait for a pause in which it would collect thoroughly and drop compiled code', async () => {
  const database = await createDatabase();
  const dataDir = mkdtempSync(join(tmpdir(), 'aqm-collector-'));
  // After a full collection, of which one comes while the code is loaded, it would look a millisecond later.
  const flags = ['--trace-gc', '--trace-memory-reducer', '--gc-memory-reducer-start-delay-ms=1'];
  const service = spawn(process.execPath, [...flags, AQM, 'serve'], {
    env: { ...process.env, ...database.env, AQM_LISTEN: '127.0.0.1:0', AQM_DATA_DIR: dataDir },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  try {
    let said = '';
    for await (const text of service.stdout) {
      said += text;
      if (said.includes('"ready"')) setTimeout(() => service.kill('SIGTERM'), LOOKED_BY_THEN_MS);
    }
    expect(said).toContain('Mark-Compact');
    expect(said).not.toContain('Memory reducer');
  } finally {
    if (service.exitCode === null && service.kill('SIGTERM')) await once(service, 'exit');
    rmSync(dataDir, { recursive: true, force: true });
    await database.drop();
  }
});
