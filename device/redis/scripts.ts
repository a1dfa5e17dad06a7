import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDER = join(__dirname, 'scripts');

/** One file each in scripts/, run as one atomic step. */
export const SCRIPT_NAMES = [
  'open-device',
  'vault-tidy',
  'vault-store',
  'vault-burn',
  'vault-status',
  'vault-count',
  'vault-list',
  'vault-purge',
  'outbox-add',
  'outbox-take',
  'outbox-remove',
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
] as const;

export type ScriptName = (typeof SCRIPT_NAMES)[number];

/** A line `-- include: x.lua` is replaced by that file: the server cannot load one script from another. */
export function readScript(name: ScriptName): string {
  return readFileSync(join(FOLDER, `${name}.lua`), 'utf8').replace(/^-- include: (\S+)$/gm, (_, file: string) =>
    readFileSync(join(FOLDER, file), 'utf8'),
  );
}
