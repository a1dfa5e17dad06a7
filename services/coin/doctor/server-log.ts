import { sql } from 'kysely';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { type Check, ok, warn } from './check';

/** Settings of PostgreSQL that log statements, with the value that logs none. */
const LOGS_STATEMENTS = [
  ['log_statement', ['none', 'ddl']],
  ['log_min_duration_statement', ['-1']],
  ['log_min_duration_sample', ['-1']],
  ['log_transaction_sample_rate', ['0']],
] as const;

/** Checks that the values of statements, which are user ids, key ids and key bytes, do not reach PostgreSQL's log. */
export async function checkServerLog(db: Database): Promise<Check> {
  const names = [
    ...LOGS_STATEMENTS.map(([name]) => name),
    'log_parameter_max_length',
    'log_parameter_max_length_on_error',
  ];
  const rows = await run(
    db,
    sql<{ name: string; setting: string }>`SELECT name, setting FROM pg_settings WHERE name = ANY(${names})`,
  );
  const settings = new Map(rows.map(({ name, setting }) => [name, setting]));
  const logging = LOGS_STATEMENTS.filter(([name, quiet]) => {
    const found = settings.get(name);
    return found !== undefined && !(quiet as readonly string[]).includes(found);
  }).map(([name]) => `${name} = ${settings.get(name)}`);
  const wrong: string[] = [];
  if (logging.length > 0 && settings.get('log_parameter_max_length') !== '0') {
    wrong.push(`${logging.join(', ')} with log_parameter_max_length = ${settings.get('log_parameter_max_length')}`);
  }
  const onError = settings.get('log_parameter_max_length_on_error') ?? '0';
  if (onError !== '0') wrong.push(`log_parameter_max_length_on_error = ${onError}`);
  if (wrong.length === 0) return ok('server-log', "statements are not logged with their values in PostgreSQL's log");
  return warn(
    'server-log',
    `PostgreSQL logs the values of statements, which are user ids and keys: ${wrong.join('; ')}`,
    'set log_parameter_max_length and log_parameter_max_length_on_error to 0 (docs/security.md, "Curious operator")',
  );
}
