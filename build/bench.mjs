// `npm run bench -- NAME [options]` runs one bench; without a name it lists them. `npm run bench -- NAME --help` prints its options.
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';

const root = dirname(import.meta.dirname);

/** One line for each folder of bench/ that holds a bench (bench/test/names.test.ts compares the two). */
export const BENCHES = {
  capacity: 'what a number of users needs, computed from the results of the other benches',
  device: 'every operation of the device library, on SQLite and Redis, at 10 to 10,000 stored coins',
  'device-versions': 'the device library of another checkout against that of this one, call by call',
  devices: 'one call for all devices of several users, against a fetch for each device',
  encoder: 'encoding of responses by hand, against the generated code',
  fetch: 'throughput of fetches against an empty gRPC echo, pgbench and a minimal service',
  'fetch-cost': 'what repeats, spent ids, fence and rechecks cost a fetch, against a plain claim',
  garbage: "the share of a call's allocations that outlives V8's young generation",
  ghz: 'each method of the contract, called by ghz',
  hot: 'thousands of users who fetch from one user at the same moment',
  import: 'how long it takes to load the device library, and to open a storage',
  limiter: 'rate limits alone, in memory and in Redis, against a library',
  limits: 'throughput without rate limits, with limits in memory, and with limits in Redis',
  memory: 'resident memory of the service over minutes of load',
  mixed: 'uploads, fetches with fallback, batch fetches and counts together',
  overload: 'several times more calls than the service can serve',
  promises: 'what each promise costs: the service with one guarantee at a time removed',
  rows: 'decoding of PostgreSQL rows in binary, against text',
  scale: 'latency of a fetch from 10,000 to 10,000,000 coins, and a year of churn',
  spent: 'size of the spent ids, and how long it takes to forget them',
  tracing: 'throughput with traces and metrics, against none',
  upload: 'throughput of uploads, against COPY into the same tables',
  users: 'thousands of connected users who fetch at random times, up to saturation',
  versions: 'the compiled service of another checkout against that of this one, interleaved',
};

if (import.meta.main) {
  const [name, ...args] = process.argv.slice(2);
  if (name === undefined || name.startsWith('-')) {
    const lines = Object.entries(BENCHES).map(([bench, line]) => `  ${bench.padEnd(15)} ${line}\n`);
    process.stdout.write(`Usage: npm run bench -- NAME [options]\n\n${lines.join('')}`);
  } else if (!(name in BENCHES)) {
    console.error(`There is no bench "${name}". There are: ${Object.keys(BENCHES).join(', ')}.`);
    process.exitCode = 2;
  } else {
    run(join(root, 'dist/bench', name, 'main.js'), args);
  }
}

function run(program, args) {
  const child = spawn(process.execPath, ['--enable-source-maps', program, ...args], { stdio: 'inherit' });
  // Ctrl-C reaches both; this process stays until the bench has cleaned up.
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code) => {
    process.exitCode = code ?? 1;
  });
}
