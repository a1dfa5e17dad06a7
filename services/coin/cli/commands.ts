import type { Command } from './command';

interface Entry {
  readonly summary: string;
  /** A command's own code is loaded when it is run, so that `serve` decides what is loaded first. */
  load(): { readonly command: Command };
}

/** Every command of `aqm`, by its words. */
export const COMMANDS: Readonly<Record<string, Entry>> = {
  serve: { summary: 'runs the coin service until SIGTERM', load: () => require('./serve') },
  migrate: { summary: 'brings the schema of the database up to date', load: () => require('./migrate') },
  token: { summary: 'prints tokens for local runs', load: () => require('./token') },
  doctor: { summary: 'looks at all that the service needs, and says what to do', load: () => require('./doctor') },
  'admin purge-stale': { summary: 'deletes unfetched coins that are old', load: () => require('./purge-stale') },
  'admin hard-delete': {
    summary: 'removes what is left of fetched coins after the fetch grace',
    load: () => require('./hard-delete'),
  },
  'admin stock': { summary: "sums up one user's coins", load: () => require('./stock') },
  'admin fence status': {
    summary: 'says whether the database may hand out coins, and why not',
    load: () => require('./fence-status'),
  },
  'admin fence retire': {
    summary: 'after a restore: makes all stock spent and begins a new epoch',
    load: () => require('./fence-retire'),
  },
  'admin fence accept': {
    summary: 'after a restore: opens the database as it is',
    load: () => require('./fence-accept'),
  },
};

/** The names of all commands that begin with these words; of all where there are none. */
export function commandsBelow(words: readonly string[]): string[] {
  const begin = words.map((word) => `${word} `).join('');
  return Object.keys(COMMANDS).filter((name) => name.startsWith(begin));
}
