import type { CommandDefinition } from './command';

interface Entry {
  /** One line for the list of commands, in the imperative. */
  readonly summary: string;
  /** Loads the command's own code, which is done only when it is needed, so that `serve` decides what is loaded first. */
  load(): { readonly command: CommandDefinition };
}

/** The groups of commands, by their words. */
export const GROUPS: Readonly<Record<string, string>> = {
  admin: 'inspect and clean up the database, end accounts, decide about a restore',
  'admin fence': 'inspect the restore fence and decide about a restored database',
};

/** Every command of `aqm`, by its words. */
export const COMMANDS: Readonly<Record<string, Entry>> = {
  serve: { summary: 'run the coin service until SIGTERM', load: () => require('./serve') },
  migrate: { summary: 'bring the schema of the database up to date', load: () => require('./migrate') },
  'upgrade-postgres': {
    summary: "copy the embedded PostgreSQL's data to a newer major version",
    load: () => require('./upgrade-postgres'),
  },
  config: { summary: 'print the effective settings, without secrets', load: () => require('./config') },
  doctor: { summary: 'check the installation and suggest fixes', load: () => require('./doctor') },
  top: { summary: 'show the figures of running services, live', load: () => require('./top') },
  token: { summary: 'print tokens for local runs', load: () => require('./token') },
  jwks: { summary: 'print public keys as one JWK Set', load: () => require('./jwks') },
  'admin purge-stale': { summary: 'delete old coins that were never fetched', load: () => require('./purge-stale') },
  'admin hard-delete': {
    summary: 'delete the remains of fetched coins after the fetch grace',
    load: () => require('./hard-delete'),
  },
  'admin stock': { summary: "summarize one user's coins", load: () => require('./stock') },
  'admin export-user': {
    summary: 'print what the service holds about one user, as JSON',
    load: () => require('./export-user'),
  },
  'admin delete-user': {
    summary: 'delete all that the service holds about one user',
    load: () => require('./delete-user'),
  },
  'admin fence status': {
    summary: 'show if the database may hand out coins, and why not',
    load: () => require('./fence-status'),
  },
  'admin fence retire': {
    summary: 'after a restore: discard all stock and start a new epoch',
    load: () => require('./fence-retire'),
  },
  'admin fence accept': {
    summary: 'after a restore: accept the database as it is',
    load: () => require('./fence-accept'),
  },
};
