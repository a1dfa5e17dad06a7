import { SCRIPT_TEXTS } from './script-texts';

/** The scripts, one file each in scripts/. Each runs as one atomic step. */
export const SCRIPT_NAMES = [
  'open-device',
  'upgrade-layout',
  'upgrade-contact-devices',
  'trusted-time-save',
  'owner-bind',
  'owner-removed',
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
  'outbox-conflicts',
  'outbox-put-back',
  'coin-store',
  'coin-select',
  'coins-select',
  'devices-learn',
  'priority-set',
  'contacts-list',
  'contacts-sum-up',
  'contacts-collect',
  'contact-clear',
  'coins-count',
  'coins-discard',
  'top-ups-resume',
  'room-reserve',
  'coins-missing',
  'top-up-settle',
  'on-demand-open',
  'on-demand-settle',
  'requests-attempt',
  'request-abandon',
  'move-step',
] as const;

export type ScriptName = (typeof SCRIPT_NAMES)[number];

/** The scripts that run in any move state: they read or change it themselves. */
const WITHOUT_MOVE_CHECK: readonly ScriptName[] = [
  'open-device',
  'upgrade-layout',
  'upgrade-contact-devices',
  'trusted-time-save',
  'move-step',
];

/**
 * Returns true if the script refuses to run while the storage takes part in a move. Such a script gets the device's key
 * as the last of its KEYS; move-state.lua, which precedes it, removes that key again.
 */
export function checksMoveState(name: ScriptName): boolean {
  return !WITHOUT_MOVE_CHECK.includes(name);
}

function textOf(file: string): string {
  const text = SCRIPT_TEXTS[file];
  if (text === undefined) throw new TypeError(`There is no script ${file}.`);
  return text;
}

/**
 * Returns a script's text. A line `-- include: x.lua` is replaced by that file, because the server cannot load one
 * script from another.
 */
export function readScript(name: ScriptName): string {
  const text = textOf(`${name}.lua`).replace(/^-- include: (\S+)$/gm, (_, file: string) => textOf(file));
  // After the first line, which holds the script's flags.
  return checksMoveState(name) ? text.replace(/^#!lua.*\n/, (flags) => flags + textOf('move-state.lua')) : text;
}
