import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../../testkit/root';
import { splicedInto } from './sql-text';

/**
 * Expressions that may become SQL text: names and pieces that are written in these files, never
 * sent or stored values.
 */
const ALLOWED: Readonly<Record<string, { readonly because: string; readonly expressions: readonly string[] }>> = {
  'services/coin/store/claim/claim-one-fast.ts': {
    because: 'the texts are built once, when the file is loaded, from constants and the numbers 1 to 20',
    expressions: [
      'text',
      'HAND_OUT_MARGIN_S',
      'guard',
      'verified',
      'location',
      'at',
      'count',
      'keyIds',
      'locations',
      'from',
      'keyId',
      'order',
    ],
  },
  'services/coin/store/claim/claim-one.ts': {
    because: 'the texts are built once, when the file is loaded, from constants and the numbers 1 to 20',
    expressions: [
      'text',
      'HAND_OUT_MARGIN_S',
      'rank',
      'category',
      'start',
      'handedOut',
      'count',
      'lock',
      'guard',
      'location',
      'at',
      "queue('c.coin_category', 'c.start', '0')",
      'picked',
      "seen('c.coin_category', 'c.start')",
      'visible',
    ],
  },
  'services/coin/store/claim/claim-many-fast.ts': {
    because: 'the six texts are built once, when the file is loaded, from constants',
    expressions: [
      'text',
      "ofCategory('c')",
      'coins(ofCategory)',
      'from',
      "user('q')",
      "user('v')",
      "category('q')",
      "category('s')",
      "category('i')",
      "category('v')",
      'scans',
      'guard',
      'verified',
      'location',
      'at',
      'record',
      'served',
      'inOrder',
      'OUT_OF_ORDER',
      'HAND_OUT_MARGIN_S',
    ],
  },
  'services/coin/store/claim/claim-devices.ts': {
    because: 'the four texts are built once, when the file is loaded, from constants',
    expressions: [
      'TEXTS[targets][held]',
      'guard',
      'users',
      'columns',
      "user('i')",
      "user('d')",
      "user('v')",
      "user('a')",
      'selected',
      "queue('')",
      'queue(located)',
      'at',
      'lock',
      'HAND_OUT_MARGIN_S',
    ],
  },
  'services/coin/store/claim/queue-starts.ts': {
    because: 'constants',
    expressions: ['TEXT', 'CURRENT_INCARNATION', 'HAND_OUT_MARGIN_S'],
  },
  'services/coin/store/claim/find-repeats.ts': {
    because: 'the two texts are built once, when the file is loaded, from constants',
    expressions: ['TEXTS[targets]', 'items', 'user'],
  },
  'services/coin/fence/guard.ts': {
    because: 'a constant of this file, and the number of a parameter',
    expressions: ['CURRENT_INCARNATION', 'parameter'],
  },
  'services/coin/database/migrate.ts': {
    because: 'the migrations that ship, and names of tables from the catalog',
    expressions: ["readFileSync(join(folder, file), 'utf8')", 'name'],
  },
  'services/coin/database/timeouts.ts': {
    because: 'ALTER ROLE takes no parameters; the name of the connected database, and those of three settings',
    expressions: ["row?.database ?? ''", 'name'],
  },
  'services/coin/database/embedded-postgres.ts': {
    because: 'CREATE DATABASE takes no parameters; the only name is aqm',
    expressions: ['name'],
  },
  'services/coin/database/embedded-upgrade.ts': {
    because: 'COPY takes no parameters; names from the catalog and a path, which pg quotes',
    expressions: ['escapeIdentifier(table)', 'escapeLiteral(file)', 'escapeIdentifier(sequence)'],
  },
  'device/sqlite/connection.ts': { because: 'passes on the text that its callers prepare', expressions: ['sql'] },
  'device/sqlite/move-endpoint.ts': {
    because: 'names of tables and columns from the lists in device-record.ts, and question marks',
    expressions: ['columns', 'this.#table(kind)', "columns.join(', ')", "columns.map(() => '?').join(', ')"],
  },
  'device/sqlite/move-state.ts': {
    because: 'names of tables from RECORD_KINDS',
    expressions: ['tableName(kind, wasRenamed)', 'tableName(kind, isRenamed)'],
  },
  'device/sqlite/migrate.ts': {
    because: 'the migrations that ship, their numbers, and names of tables from RECORD_KINDS',
    expressions: ['sql', 'number', 'tableName(kind, areRenamed)', 'tableName(kind, !areRenamed)'],
  },
  'device/sqlite/vault.ts': { because: 'a constant, the beginning of two statements', expressions: ['shrink'] },
};

const sources = globSync('{services,device}/**/*.ts', { cwd: ROOT })
  .map((file) => file.replaceAll('\\', '/'))
  .filter((file) => !/\/(test|conformance)\//.test(file))
  .map((file) => ({ file, spliced: splicedInto(readFileSync(join(ROOT, file), 'utf8')) }));

test('every value of a statement is a bound parameter', () => {
  const unbound = sources.flatMap(({ file, spliced }) =>
    spliced
      .filter(({ expression }) => !ALLOWED[file]?.expressions.includes(expression))
      .map(
        ({ line, expression }) =>
          `${file}:${line}: ${expression} becomes SQL text. Bind it ($1, ?, or \${…} in sql\`…\`); only a name or a piece that is written in the file may be added to ALLOWED, with its reason`,
      ),
  );
  expect(unbound).toEqual([]);
});

test('every allowed expression exists', () => {
  const used = (file: string) =>
    new Set(sources.find((source) => source.file === file)?.spliced.map(({ expression }) => expression));
  for (const [file, { expressions }] of Object.entries(ALLOWED)) {
    expect([file, expressions.filter((expression) => !used(file).has(expression))]).toEqual([file, []]);
  }
});

/** Replaces #{…}, which stands for ${…} in the sources below. */
const typescript = (source: string) => source.replaceAll('#{', '${');

test.each([
  ['a template given to query', 'client.query(`SELECT * FROM coin WHERE key_id = #{keyId}`)', ['keyId']],
  ['a template given to prepare', 'this.#db.prepare<[], Row>(`DELETE FROM #{table}`).run()', ['table']],
  ['a template that becomes a statement later', 'const text = `#{begin} WHERE id = #{id}`', ['begin', 'id']],
  ['a template in a function in a call', 'run(() => `SELECT #{what}`)', ['what']],
  ['a sum', "const text = 'SELECT * FROM coin WHERE key_id = ' + keyId;", ['keyId']],
  ['a text from elsewhere', 'database.exec(text)', ['text']],
  ['sql.raw', 'sql`SELECT #{sql.raw(column)} FROM coin`.execute(db)', ['column']],
  ['a name for Kysely', 'sql`SELECT #{sql.ref(column)} FROM coin`.execute(db)', ['column']],
  ['CompiledQuery.raw', 'CompiledQuery.raw(texts[n], values)', ['texts[n]']],
  ['a literal of the query builder', "db.selectFrom('coin').where((eb) => eb('key_id', '=', eb.lit(id)))", ['id']],
  ['a dynamic name of the query builder', "db.selectFrom('coin').select(db.dynamic.ref(column))", ['column']],
  ['a template inside of a bound value', 'sql`SELECT #{run(`SELECT #{id}`)}`', ['id']],
])('finds %s', (_what, source, expressions) => {
  const lines = `import { sql } from 'kysely';\n// ünïcode\n${typescript(source)}`;
  expect(splicedInto(lines)).toEqual(expressions.map((expression) => ({ line: 3, expression })));
});

test.each([
  ['values bound by Kysely', 'sql`SELECT * FROM coin WHERE key_id = #{keyId}::uuid`.execute(db)'],
  ['values bound by the query builder', "db.selectFrom('coin').where('key_id', '=', keyId).limit(count)"],
  ['parameters', "client.query('SELECT * FROM coin WHERE key_id = $1', [keyId])"],
  ['a template without expressions', 'connection.prepare(`SELECT * FROM coin WHERE key_id = ?`).get(keyId)'],
  ['a regular expression', '/^(\\d+)$/.exec(text)'],
  ['a sentence', 'new Error(`The database #{name} selects nothing from here, where it should`)'],
])('accepts %s', (_what, source) => {
  expect(splicedInto(typescript(source))).toEqual([]);
});
