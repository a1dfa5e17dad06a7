import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../../testkit/root';

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'aqm-loaded-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Imports the compiled library in a new process, runs `use`, and returns the packages that were loaded until then. */
async function packagesLoadedBy(use: string, type: 'commonjs' | 'module'): Promise<string[]> {
  const library = JSON.stringify(join(ROOT, 'dist/device/index.js'));
  const program =
    type === 'commonjs'
      ? `const device = require(${library}); void (async () => { ${use} report(require); })();`
      : `import * as device from ${library}; import { createRequire } from 'node:module';
         ${use} report(createRequire(${library}));`;
  const report = `function report(require) {
    const packages = Object.keys(require.cache).map((file) => /node_modules\\/((?:@[^/]+\\/)?[^/]+)/.exec(file)?.[1]);
    process.stdout.write(JSON.stringify([...new Set(packages)].filter(Boolean)));
  }`;
  const { stdout } = await run(process.execPath, [`--input-type=${type}`, '--eval', `${program}\n${report}`]);
  return JSON.parse(stdout).sort();
}

describe.each(['commonjs', 'module'] as const)('imported from %s', (type) => {
  test('a device on SQLite loads neither Redis nor gRPC', async () => {
    const config = `{ backend: 'sqlite', path: ${JSON.stringify(join(folder, `${type}.db`))}, key: new Uint8Array(32) }`;
    const use = `
      const storage = await device.openDeviceStorage(${config});
      await storage.vault.fetchKey('malformed').catch(() => {});
      await storage.vault.countActive('GOLD');
      await storage.close();`;
    expect(await packagesLoadedBy(use, type)).toEqual(['@bufbuild/protobuf', '@opentelemetry/api', 'better-sqlite3']);
  });

  test('Redis and gRPC are loaded when they are used', async () => {
    const redis = `await device.openDeviceStorage({ backend: 'redis', url: 'unix:///nowhere', namespace: 'n' }).catch(() => {});`;
    expect(await packagesLoadedBy(redis, type)).toContain('ioredis');
    expect(await packagesLoadedBy(`await device.topUp({}, {}, []).catch(() => {});`, type)).toContain('@grpc/grpc-js');
  });
});
