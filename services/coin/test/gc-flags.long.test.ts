import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AQM } from '../../../testkit/service-process';
import { createDatabase } from '../../../testkit/test-database';

/**
 * The time to wait for the memory reducer, in milliseconds, with a margin. Without the flags of the
 * service, V8 starts it some 0.2 s after the start of the process.
 */
const REDUCER_STARTED_MS = 1000;

/** A busy machine delays the flags, so that V8 may start the reducer before them, now and then. */
const ATTEMPTS = 5;

test('V8 does not start its memory reducer, which would drop compiled code in a pause', async () => {
  const database = await createDatabase();
  const outputs: string[] = [];
  do outputs.push(await traceOf(database.env));
  while (outputs.at(-1)?.includes('Memory reducer') && outputs.length < ATTEMPTS);
  await database.drop();
  expect(outputs.at(-1)).toContain('Mark-Compact');
  expect(outputs.at(-1)).not.toContain('Memory reducer');
});

/** Starts the service, stops it when the reducer would have started, and returns V8's trace. */
async function traceOf(databaseEnv: NodeJS.ProcessEnv): Promise<string> {
  const dataDir = mkdtempSync(join(tmpdir(), 'aqm-gc-flags-'));
  // The memory reducer would start a millisecond after a full collection, and loading the code
  // causes one.
  const flags = ['--trace-gc', '--trace-memory-reducer', '--gc-memory-reducer-start-delay-ms=1'];
  const service = spawn(process.execPath, [...flags, AQM, 'serve'], {
    env: { ...process.env, ...databaseEnv, AQM_LISTEN: '127.0.0.1:0', AQM_DATA_DIR: dataDir },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  try {
    let output = '';
    for await (const text of service.stdout) {
      output += text;
      if (output.includes('"ready"')) setTimeout(() => service.kill('SIGTERM'), REDUCER_STARTED_MS);
    }
    return output;
  } finally {
    if (service.exitCode === null && service.kill('SIGTERM')) await once(service, 'exit');
    rmSync(dataDir, { recursive: true, force: true });
  }
}
