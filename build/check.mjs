// `npm run check`: everything that CI runs, part after part. `npm run check -- --only PART` runs one part; it can be repeated. The
// last lines are a table of the parts and the sum of the tests, in the form `N passed, N failed`.
import { spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensurePostgresVersions } from './postgres-versions.mjs';

const root = dirname(import.meta.dirname);
const countsFile = join(tmpdir(), `aqm-check-${process.pid}.txt`);

/** The environment of every run of jest: all cases, and the counts of the run appended to a file (summary-reporter.cjs). */
const FULL = { TEST_TIER: 'full', TEST_COUNTS_FILE: countsFile };
const node = (...args) => [process.execPath, ...args];
const jest = (...args) => ['jest', ...args];

/** The tests of all that partitioned tables could change. */
const PARTITIONED_TESTS =
  'services/coin/test/store/(.*/)?(claim|fetch-coins|fetch-device-coins|device-races|batching|once|purges|reconcile-coins|spent-memory|upload-coins)(\\.long)?\\.test';

/** Steps that come first, for the parts that need them. */
const BUILD = { name: 'build', does: 'generates and compiles', commands: [node('build/build.mjs')] };
const TOOLS = {
  name: 'tools',
  does: 'installs what the tests need beside npm packages, or names it',
  before: ensurePostgresVersions,
  commands: [node('build/ensure-tools.mjs', '--all')],
};

const PARTS = {
  lint: {
    does: 'style and import rules of the code and of proto/',
    commands: [['npm', 'run', '--silent', 'lint']],
  },
  breaking: {
    does: 'the contract against the last release and against the parent commit',
    commands: [node('build/breaking.mjs')],
  },
  generated: {
    does: 'committed generated files against their sources',
    commands: [node('build/generate.mjs', '--check')],
  },
  test: {
    does: 'every test but those of clients/',
    commands: [jest('--testPathIgnorePatterns', '/node_modules/', '/dist/', '/clients/test/')],
    env: FULL,
  },
  clients: {
    does: 'the examples in each language, with faults and with added fields',
    commands: [jest('clients/test')],
    env: FULL,
  },
  'postgres-16': {
    does: "the service's tests on PostgreSQL 16",
    commands: [jest('services/coin/test/')],
    env: { ...FULL, AQM_POSTGRES_PACKAGE: 'postgres-16' },
  },
  'postgres-17': {
    does: "the service's tests on PostgreSQL 17",
    commands: [jest('services/coin/test/')],
    env: { ...FULL, AQM_POSTGRES_PACKAGE: 'postgres-17' },
  },
  pooler: {
    does: "the service's tests through PgBouncer, on two replicas of the service",
    commands: [jest('services/coin/test/')],
    env: { ...FULL, TEST_POOLER: 'pgbouncer', TEST_REPLICAS: '2' },
  },
  partitions: {
    does: 'claims, uploads and purges on tables partitioned by user_id',
    commands: [jest(PARTITIONED_TESTS)],
    env: { ...FULL, TEST_PARTITIONS: '8', AQM_DISTRIBUTED: 'on', AQM_CLAIM_BATCH: '256' },
  },
};

const USAGE = `Usage: npm run check [-- --only PART …]

Parts, in their order:
${Object.entries(PARTS)
  .map(([name, { does }]) => `  ${name.padEnd(12)} ${does}\n`)
  .join('')}`;

process.exitCode = await main();

async function main() {
  const options = { only: { type: 'string', multiple: true }, help: { type: 'boolean' } };
  const { values } = parseArgs({ options });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const unknown = values.only?.find((name) => !(name in PARTS));
  if (unknown !== undefined) {
    console.error(`There is no part "${unknown}".\n${USAGE}`);
    return 2;
  }
  const parts = Object.entries(PARTS)
    .filter(([name]) => values.only?.includes(name) ?? true)
    .map(([name, part]) => ({ name, ...part }));
  const isTested = parts.some(({ env }) => env !== undefined);
  const results = [];
  for (const step of isTested ? [BUILD, TOOLS] : [BUILD]) {
    results.push(await runPart(step));
    if (!results.at(-1).isPassed) return report(results);
  }
  for (const part of parts) results.push(await runPart(part));
  return report(results);
}

async function runPart({ name, does, commands, env = {}, before = () => {} }) {
  process.stdout.write(`\n=== ${name}: ${does}\n`);
  const begin = performance.now();
  let isPassed = true;
  try {
    before();
    for (const command of commands) isPassed &&= (await run(command, env)) === 0;
  } catch (error) {
    console.error(error);
    isPassed = false;
  }
  return { name, isPassed, seconds: (performance.now() - begin) / 1000 };
}

function run([program, ...args], env) {
  const path = `${join(root, 'node_modules/.bin')}:${process.env.PATH}`;
  const child = spawn(program, args, { cwd: root, stdio: 'inherit', env: { ...process.env, PATH: path, ...env } });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
}

/** Prints the table of the parts and the sum of the tests. @returns the exit code */
function report(results) {
  const total = results.reduce((sum, { seconds }) => sum + seconds, 0);
  const rows = [...results, { name: 'all', isPassed: results.every(({ isPassed }) => isPassed), seconds: total }].map(
    ({ name, isPassed, seconds }) =>
      `  ${name.padEnd(12)}${isPassed ? 'passed' : 'FAILED'}${seconds.toFixed(0).padStart(7)} s\n`,
  );
  process.stdout.write(`\n=== summary\n${rows.join('')}`);
  const { passed, failed, skipped } = sumOfCounts();
  const failedParts = results.filter(({ isPassed }) => !isPassed).length;
  // A part can fail without a failed test; then the last line must not read as a success.
  const failures = Math.max(failed, failedParts);
  process.stdout.write(`${passed} passed, ${failures} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`);
  return failedParts === 0 ? 0 : 1;
}

function sumOfCounts() {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  try {
    for (const line of readFileSync(countsFile, 'utf8').trim().split('\n')) {
      for (const [name, count] of Object.entries(JSON.parse(line))) sum[name] += count;
    }
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  } finally {
    rmSync(countsFile, { force: true });
  }
  return sum;
}
