import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { brokenCopy, DIST } from '../../testkit/broken-copy';
import { BREAKS, type Break } from './breaks';
import type { Recorder } from './recorder';
import { describeOutcome, figuresOf, isClean } from './report';
import { type Outcome, type Plan, run } from './run';
import { showStates, statusPagesOf } from './show-states';
import { STATES } from './states';
import { openDeployment, openLocalTestBed } from './test-bed';
import { longestWork, TIMING, WORKLOAD } from './workload';

const USAGE = `Usage: npm run chaos [-- --minutes 5] [--services 3] [--clients 24] [--seed N]
                             [--json FILE] [--history FILE]
       npm run chaos -- --break NAME|all
       npm run chaos -- --state NAME|all [--minutes 1] [--services 1]
       DATABASE_URL=… npm run chaos -- --address HOST:PORT … --token-key FILE --grace SECONDS

  Runs many clients against several services while processes are killed and connections cut. Then it
  checks the recorded calls and the final tables against the promises. Exit code 0: every promise
  held (with --break: exactly the broken one was reported). 1: a promise was violated (with --break:
  another report was expected). 2: the run could not start.

  --minutes   duration of the run (default 1)
  --services  number of service processes (default 3)
  --clients   number of fetching clients (default 24)
  --seed      repeats the random choices of a run, but not the timing of the machine (default random)
  --break     breaks a promise in a copy of the compiled service: ${Object.keys(BREAKS).join(', ')}
  --state     holds a state for --minutes each, under load, and prints what the status page says:
              ${Object.keys(STATES).join(', ')}.
              Exit code 0: each was named within a minute, and all was well after it
  --status    prints the addresses of the services' status pages at the start
  --json      writes the verdict and the figures to a file
  --history   writes every call and fault to a file, one JSON object per line
  --address   tests a deployed service (may be repeated): nothing is killed, only the clients' own
              connections fail. Requires the private key of its tokens, its AQM_FETCH_GRACE (more
              than 20 s) and, in DATABASE_URL, its database for the final tables. The service must
              run with AQM_LIMITS=off`;

/** The default duration of a run with --break. Most broken promises show within seconds. */
const BREAK_MS = 5000;

const DEFAULT_SERVICES = '3';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    services: { type: 'string', default: DEFAULT_SERVICES },
    clients: { type: 'string', default: String(WORKLOAD.requesters) },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 32)) },
    break: { type: 'string' },
    state: { type: 'string' },
    status: { type: 'boolean', default: false },
    json: { type: 'string' },
    history: { type: 'string' },
    address: { type: 'string', multiple: true, default: [] },
    'token-key': { type: 'string' },
    grace: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

class UsageError extends Error {}

function positive(name: 'minutes' | 'services' | 'clients' | 'seed' | 'grace'): number {
  const value = Number(values[name]);
  if (Number.isFinite(value) && value > 0) return value;
  throw new UsageError(`--${name} must be a positive number`);
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function onProgress(recorder: Recorder): void {
  const { calls, faults } = recorder;
  const failed = calls.filter((call) => call.failure).length;
  console.error(
    `${Math.round(recorder.now() / 1000)} s: ${calls.length} calls, ${failed} failed, ${faults.length} faults`,
  );
}

async function whole(): Promise<number> {
  const elsewhere = values.address.length > 0;
  // Deployed services are assumed to have default timeouts.
  const timing = elsewhere ? { ...TIMING, graceMs: positive('grace') * 1000, statementTimeoutMs: 5000 } : TIMING;
  const durationMs = positive('minutes') * 60_000;
  const plan: Plan = {
    durationMs,
    seed: positive('seed'),
    workload: { ...WORKLOAD, requesters: positive('clients') },
    timing,
    faultWindows: { lastMs: 8000, everyMs: 350, calmMs: Math.min(6000, 0.15 * durationMs) },
    onProgress,
  };
  const testBed = elsewhere
    ? await openDeployment({
        addresses: values.address,
        databaseUrl: process.env.DATABASE_URL ?? '',
        tokenKeyFile: values['token-key'] ?? '',
        zombieMs: longestWork(timing),
      })
    : await openLocalTestBed(positive('services'), DIST, timing);
  try {
    for (const address of values.status ? statusPagesOf(testBed) : []) print(`status page: ${address}`);
    const outcome = await run(testBed, plan);
    print(describeOutcome(outcome));
    save(outcome, plan);
    const clean = isClean(outcome);
    print(clean ? `\nevery promise held (--seed ${plan.seed})` : `\nPROMISES BROKEN (--seed ${plan.seed})`);
    return clean ? 0 : 1;
  } finally {
    await testBed.close();
  }
}

/** Runs with one broken promise. @returns true if exactly that promise was reported */
async function broken(
  name: string,
  { edits, expected, implied, workload, timing, faults, durationMs = BREAK_MS, why }: Break,
): Promise<boolean> {
  const copy = brokenCopy(edits);
  const times = { ...TIMING, ...timing };
  const plan: Plan = {
    durationMs,
    seed: positive('seed'),
    workload: { ...WORKLOAD, requesters: positive('clients'), ...workload },
    timing: times,
    faultWindows: faults && { lastMs: 1000, everyMs: 200, calmMs: 8000, only: faults },
    onProgress,
  };
  try {
    // A busy machine must not refuse calls: only what the break does is to be reported.
    const testBed = await openLocalTestBed(2, copy.dist, times, { AQM_MAX_WAIT_MS: '60000' });
    try {
      const outcome = await run(testBed, plan);
      const reported = outcome.verdict.findings.filter(({ breaches }) => breaches.length > 0).map((one) => one.promise);
      const right = reported.includes(expected) && reported.every((one) => one === expected || implied.includes(one));
      print(`\n${name}: ${why}\n`);
      print(describeOutcome(outcome));
      const also = implied.length > 0 ? ` (which may imply: ${implied.join(', ')})` : '';
      print(`\n${right ? 'ok' : 'WRONG'}: expected ${expected}${also}; reported ${reported.join(', ') || 'nothing'}`);
      save(outcome, plan);
      return right;
    } finally {
      await testBed.close();
    }
  } finally {
    copy.remove();
  }
}

function save(outcome: Outcome, plan: Plan): void {
  if (values.json) {
    const { onProgress: _, ...options } = plan;
    const { findings } = outcome.verdict;
    writeFileSync(values.json, `${JSON.stringify({ options, findings, figures: figuresOf(outcome) }, undefined, 1)}\n`);
  }
  if (values.history) {
    const { calls, faults } = outcome.recorder;
    const lines = [...calls, ...faults].sort((a, b) => a.start - b.start);
    writeFileSync(values.history, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  }
}

/** Returns the names that an option selects. @throws UsageError */
function namesOf(what: 'break' | 'state', text: string, all: Readonly<Record<string, unknown>>): string[] {
  if (text === 'all') return Object.keys(all);
  if (text in all) return [text];
  throw new UsageError(`unknown ${what} "${text}"; choose from ${Object.keys(all).join(', ')}, all`);
}

async function main(): Promise<number> {
  if (values.help) {
    print(USAGE);
    return 0;
  }
  if (values.state !== undefined) {
    const names = namesOf('state', values.state, STATES);
    const services = values.services === DEFAULT_SERVICES ? 1 : positive('services');
    const plan = { names, durationMs: positive('minutes') * 60_000, services, dist: DIST, timing: TIMING, print };
    return (await showStates(plan)) ? 0 : 1;
  }
  if (values.break === undefined) return whole();
  const names = namesOf('break', values.break, BREAKS);
  let right = true;
  for (const name of names) {
    if (!(await broken(name, BREAKS[name] as Break))) right = false;
  }
  return right ? 0 : 1;
}

// On exit, also after a signal, all processes of the run are stopped.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error instanceof UsageError ? `${error.message}\n${USAGE}` : error);
    process.exit(2);
  },
);
