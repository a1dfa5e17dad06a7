import { execFile, spawnSync } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ROOT } from '../testkit/root';
import type { Command, Language } from './languages';

const exec = promisify(execFile);

/** A first build downloads what its package manager brings. */
const LONGEST_BUILD_MS = 1_800_000;
const LONGEST_RUN_MS = 600_000;
/** The time between two attempts to take the lock of a build, in milliseconds. */
const LOCK_RETRY_MS = 100;

/** The JSON that every example prints if the service keeps its contract. */
export const EXPECTED = {
  uploaded: 6,
  fetched: {
    phone: ['COIN_CATEGORY_GOLD', 'COIN_CATEGORY_SILVER'],
    laptop: ['COIN_CATEGORY_GOLD', 'COIN_CATEGORY_BRONZE'],
  },
  fetched_as_uploaded: true,
  repeat_is_the_same: true,
  failed_item: { code: 3, reason: 'INVALID_FIELD' },
  left: { gold: 0, silver: 0, bronze: 1 },
  retired: 1,
  devices_left: 1,
  refused: { code: 3, reason: 'INVALID_FIELD', fields: ['target_user_id', 'coin_category', 'count'] },
};

/** The service that an example calls, and its two users. */
export interface Callers {
  readonly address: string;
  readonly owner: { readonly id: string; readonly token: string };
  readonly requester: { readonly token: string };
}

/** @returns the tools of a language that are missing or too old */
export function missingTools({ needs }: Language): string[] {
  const missing = needs.filter(({ test: [program, ...args], atLeast }) => {
    const { status, stdout } = spawnSync(program, args, { encoding: 'utf8', env: withBuf() });
    if (status !== 0 || !atLeast) return status !== 0;
    const [, major = 0, minor = 0] = (/(\d+)\.(\d+)/.exec(stdout) ?? []).map(Number);
    return major < atLeast[0] || (major === atLeast[0] && minor < atLeast[1]);
  });
  return missing.map(({ what, atLeast }) => (atLeast ? `${what} ${atLeast.join('.')}` : what));
}

/**
 * Generates and compiles an example with its own commands, incrementally. Processes that build the same language wait for
 * each other: a program cannot be run while it is linked.
 * @param root the repository, or a folder with copies of proto/ and clients/
 * @throws with the output of a tool that fails
 */
export async function buildExample(language: Language, root = ROOT, env: NodeJS.ProcessEnv = {}): Promise<void> {
  const lock = join(ROOT, 'node_modules', `.aqm-example-${language.folder}.lock`);
  while (!(await takeLock(lock))) await setTimeout(LOCK_RETRY_MS);
  try {
    for (const command of language.build) await run(language, root, command, env, LONGEST_BUILD_MS);
  } finally {
    await rm(lock, { force: true });
  }
}

/** Removes the lock of a process that was killed. @returns false if another process has it, or had it until now */
async function takeLock(lock: string): Promise<boolean> {
  try {
    await writeFile(lock, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  try {
    process.kill(Number(await readFile(lock, 'utf8')), 0);
  } catch {
    await rm(lock, { force: true });
  }
  return false;
}

/**
 * Runs an example that was built.
 * @returns the JSON that it printed
 * @throws with what it wrote to stderr if it fails or does not end
 */
export async function runExample(
  language: Language,
  { address, owner, requester }: Callers,
  root = ROOT,
  env: NodeJS.ProcessEnv = {},
): Promise<unknown> {
  const who = {
    COIN_SERVICE_ADDRESS: address,
    OWNER_ID: owner.id,
    OWNER_TOKEN: owner.token,
    REQUESTER_TOKEN: requester.token,
  };
  return JSON.parse(await run(language, root, language.run, { ...env, ...who }, LONGEST_RUN_MS));
}

/** The report of a program that sends a message to every device: each entry names a user and one of the user's devices. */
export interface SendReport {
  readonly sent: readonly (readonly [userId: string, deviceId: string, keyId: string])[];
  readonly unreached: readonly (readonly [userId: string, deviceId: string, why: string])[];
}

/**
 * Runs a language's program that sends a message to every device of these users.
 * @throws with what it wrote to stderr if it fails or does not end
 */
export async function runSendToDevices(
  language: Language,
  { address, requester }: Pick<Callers, 'address' | 'requester'>,
  userIds: readonly string[],
): Promise<SendReport> {
  if (!language.sendToDevices) throw new RangeError(`There is no such program in ${language.name}.`);
  const env = { COIN_SERVICE_ADDRESS: address, REQUESTER_TOKEN: requester.token };
  return JSON.parse(await run(language, ROOT, [...language.sendToDevices, ...userIds], env, LONGEST_RUN_MS));
}

async function run(
  language: Language,
  root: string,
  [program, ...args]: Command,
  env: NodeJS.ProcessEnv,
  timeout: number,
): Promise<string> {
  const cwd = join(root, 'clients', language.folder);
  // A relative path starts at the example's folder; a bare name is looked up on PATH.
  const file = program.includes('/') ? resolve(cwd, program) : program;
  const { stdout } = await exec(file, args, {
    cwd,
    env: { ...withBuf(), ...language.env?.(cwd), ...env },
    timeout,
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout;
}

/** Returns the environment with this package's Node 24 and buf first on PATH. */
function withBuf(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${join(ROOT, 'node_modules/.bin')}${delimiter}${process.env.PATH ?? ''}` };
}
