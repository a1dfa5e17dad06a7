import {
  type CompiledQuery,
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
} from 'kysely';
import type { Statement } from './connection';
import type { Database } from './pool';
import type { DB } from './schema';

/** A Kysely that compiles queries and has no connections. */
const compiler: Database = new Kysely<DB>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  },
});

/** Stands for a value while a statement is built. */
export type ValueOf<Values> = <Name extends keyof Values>(name: Name) => Values[Name];

/** Takes the place of a value until the statement is run. */
class Placeholder {
  readonly name: PropertyKey;
  constructor(name: PropertyKey) {
    this.name = name;
  }
}

/**
 * Compiles a query of the builder once, and returns a function that binds its values. It is meant
 * for statements of frequent calls: to build and compile the count of one user's coins takes 37 µs
 * of processor time, and an SQL template 2 µs.
 * @param build builds the query, with `value(name)` in the place of each value that varies
 */
export function compileOnce<Values extends object, Row>(
  build: (db: Database, value: ValueOf<Values>) => { compile(): CompiledQuery<Row> },
): (values: Values) => Statement<Row> {
  const compiled = build(compiler, (name) => new Placeholder(name) as never).compile();
  return (values) => ({
    compile: () => ({
      ...compiled,
      parameters: compiled.parameters.map((parameter) =>
        parameter instanceof Placeholder ? values[parameter.name as keyof Values] : parameter,
      ),
    }),
  });
}
