import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT } from '../../testkit/root';
import { median } from '../harness/numbers';

const USAGE = `Usage: npm run bench -- import [--rounds 11]
  Measures in new processes how long it takes to load the device library, and to open a storage with a raw key, in
  milliseconds since Node began to run the program. The figures are medians of the rounds, which are interleaved.`;

const LIBRARY = JSON.stringify(join(ROOT, 'dist/device/index.js'));

/** Each program prints the milliseconds that it took. */
function programs(folder: string): Record<string, { readonly type: 'commonjs' | 'module'; readonly code: string }> {
  const commonjs = (code: string) => ({ type: 'commonjs', code: `const start = performance.now(); ${code}` }) as const;
  const path = JSON.stringify(join(folder, 'device.db'));
  const open = `openDeviceStorage({ backend: 'sqlite', path: ${path}, key: new Uint8Array(32) })`;
  const print = 'process.stdout.write(String(performance.now() - start));';
  return {
    require: commonjs(`require(${LIBRARY}); ${print}`),
    import: {
      type: 'module',
      code: `const start = performance.now(); await import(${LIBRARY}); ${print}`,
    },
    'require, open SQLite': commonjs(
      `require(${LIBRARY}).${open}.then((storage) => { ${print} return storage.close(); });`,
    ),
    'require, with the Redis client': commonjs(`require(${LIBRARY}); require('ioredis'); ${print}`),
    'require, with gRPC': commonjs(`require(${LIBRARY}).CoinServiceClient; ${print}`),
  };
}

function main(): void {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '11' }, help: { type: 'boolean' } } });
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'aqm-import-'));
  try {
    const all = Object.entries(programs(folder)).map(([name, program]) => ({
      name,
      ...program,
      times: [] as number[],
    }));
    for (let round = 0; round < Number(values.rounds); round += 1) {
      for (const { type, code, times } of all) {
        const args = [`--input-type=${type}`, '--eval', code];
        times.push(Number(execFileSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' })));
      }
    }
    for (const { name, times } of all) {
      process.stdout.write(`${name.padEnd(32)} ${median(times).toFixed(0).padStart(4)} ms\n`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

main();
