import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDER = join(__dirname, 'scripts');

/** One file each in scripts/, run as one atomic step. */
export const SCRIPT_NAMES = [
  'open-device',
  'upgrade-layout',
  'vault-tidy',
  'vault-store',
  'vault-burn',
  'vault-status',
  'vault-count',
  'vault-list',
  'vault-purge',
  'outbox-add',
  'outbox-take',
  'outbox-acknowledge',
  'outbox-remove',
  'outbox-put-back',
  'coin-store',
  'coin-select',
  'priority-set',
  'contacts-list',
  'contacts-sum-up',
  'contacts-collect',
  'coins-count',
  'top-ups-resume',
  'room-reserve',
  'coins-missing',
  'top-up-settle',
  'on-demand-open',
  'on-demand-settle',
  'requests-ask-again',
  'request-abandon',
  'move-step',
] as const;

export type ScriptName = (typeof SCRIPT_NAMES)[number];

/** These look at the state of a copy themselves. */
const UNFENCED: readonly ScriptName[] = ['open-device', 'upgrade-layout', 'move-step'];

/** Every other script gets the device's key as the last of its KEYS, and takes it away before the script sees them. */
export function isFenced(name: ScriptName): boolean {
  return !UNFENCED.includes(name);
}

/** A line `-- include: x.lua` is replaced by that file: the server cannot load one script from another. */
export function readScript(name: ScriptName): string {
  const read = (file: string) => readFileSync(join(FOLDER, file), 'utf8');
  const text = read(`${name}.lua`).replace(/^-- include: (\S+)$/gm, (_, file: string) => read(file));
  // After the first line, which names the script's flags.
  return isFenced(name) ? text.replace(/^#!lua.*\n/, (flags) => flags + read('move-state.lua')) : text;
}
