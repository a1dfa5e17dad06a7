import type { Scene } from './scene';

/** One mistake of an operator: a command line with an environment that differs from one that works. */
export interface Misuse {
  readonly what: string;
  readonly argv: readonly string[];
  /** Differences from the environment that works; undefined: the variable is not set. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Runs as a user who may not read or write what belongs to the service. */
  readonly asNobody?: boolean;
  /** Nothing is set. */
  readonly isBare?: boolean;
  readonly code: number;
}

const NIL = '00000000-0000-0000-0000-000000000000';
const USER = 'a3bb189e-8bf9-4888-9912-ace4e6543002';

/** Every misuse, by its group. */
export function misuses(scene: Scene): Record<string, Misuse[]> {
  const serve = ['serve'];
  const migrate = ['migrate'];
  const status = ['admin', 'fence', 'status'];
  const stock = ['admin', 'stock', USER];
  const file = (name: string) => scene.path(name);
  const database = (url: string) => ({ DATABASE_URL: url });
  const tls = (certificate: string, key: string) => ({ AQM_TLS_CERT_FILE: certificate, AQM_TLS_KEY_FILE: key });
  return {
    'The command line': [
      { what: 'a misspelt command', argv: ['migrat'], code: 2 },
      { what: 'a group without its command', argv: ['admin', 'fence'], code: 2 },
      { what: 'a misspelt option', argv: ['doctor', '--jsno'], code: 2 },
      { what: 'an option without its value', argv: ['token', '--user', USER, '--ttl'], code: 2 },
      { what: 'another word than up, down, status', argv: ['migrate', 'sideways'], code: 2 },
      { what: 'a name in place of a UUID', argv: ['admin', 'stock', 'bob'], code: 2 },
      { what: 'a number beyond its bounds', argv: ['admin', 'purge-stale', '--max-age-days', '0'], code: 2 },
      { what: 'a token without a user', argv: ['token'], code: 2 },
      { what: 'a name in place of a device', argv: ['token', '--user', USER, '--device', 'phone'], code: 2 },
      { what: 'the nil UUID for a device', argv: ['token', '--user', USER, '--device', NIL], code: 2 },
      { what: 'an option that belongs to another word', argv: ['migrate', 'up', '--even-if-data'], code: 2 },
    ],
    Settings: [
      { what: 'a misspelt setting', argv: serve, env: { AQM_TOKEN_ISUER: 'https://id' }, code: 2 },
      { what: 'an address without its host', argv: serve, env: { AQM_LISTEN: '50051' }, code: 2 },
      { what: 'a word in place of a number', argv: migrate, env: { AQM_POOL_SIZE: 'many' }, code: 2 },
      { what: 'a unit behind a number', argv: serve, env: { AQM_FETCH_GRACE: '1h' }, code: 2 },
      { what: 'a burst that no fetch fits in', argv: serve, env: { AQM_LIMIT_PER_TARGET: '600/10' }, code: 2 },
      { what: 'two invalid settings', argv: ['doctor'], env: { AQM_LOG_LEVEL: 'loud', AQM_LIMITS: 'yes' }, code: 1 },
      { what: 'the URL of a Redis for the database', argv: migrate, env: database('redis://redis/0'), code: 2 },
      {
        what: 'the database for the rate limits',
        argv: serve,
        env: { AQM_LIMITS_REDIS_URL: 'postgresql://db' },
        code: 2,
      },
      { what: 'another kind of database', argv: migrate, env: database('mysql://aqm@db/aqm'), code: 2 },
      { what: 'a slash in the password', argv: migrate, env: database('postgresql://aqm:a/b@db/aqm'), code: 2 },
      { what: 'two hosts', argv: migrate, env: database('postgresql://aqm@one,two/aqm'), code: 2 },
      {
        what: 'a misspelt parameter of the URL',
        argv: migrate,
        env: database('postgresql://db/aqm?sslmod=require'),
        code: 2,
      },
      {
        what: 'a parameter for which there is a setting',
        argv: stock,
        env: database('postgresql://db/aqm?connect_timeout=5'),
        code: 2,
      },
      { what: 'workers without a Redis', argv: serve, env: { AQM_WORKERS: '4' }, code: 2 },
      {
        what: 'a pooler without a database',
        argv: serve,
        env: { DATABASE_URL: undefined, AQM_POOLER: 'transaction' },
        code: 2,
      },
      { what: 'two sources of token keys', argv: serve, env: { AQM_TOKEN_JWKS_URL: 'https://id/keys' }, code: 2 },
      {
        what: 'token keys over plain HTTP',
        argv: serve,
        env: { AQM_TOKEN_PUBLIC_KEY_FILE: undefined, AQM_TOKEN_JWKS_URL: 'http://id.example.org/keys' },
        code: 2,
      },
      {
        what: 'a public address without token keys',
        argv: serve,
        env: { AQM_LISTEN: '0.0.0.0:50051', AQM_TOKEN_PUBLIC_KEY_FILE: undefined, AQM_PLAINTEXT: 'anywhere' },
        code: 2,
      },
      { what: 'a public address without TLS', argv: serve, env: { AQM_LISTEN: '0.0.0.0:50051' }, code: 2 },
      { what: 'a certificate without its key', argv: serve, env: { AQM_TLS_CERT_FILE: file('0.crt') }, code: 2 },
      { what: 'both NAME and NAME_FILE', argv: migrate, env: { DATABASE_URL_FILE: file('secret.txt') }, code: 2 },
    ],
    'No environment': [
      { what: 'no environment', argv: migrate, isBare: true, code: 2 },
      { what: 'no environment', argv: status, isBare: true, code: 2 },
      { what: 'no environment, in production', argv: serve, isBare: true, env: { NODE_ENV: 'production' }, code: 2 },
      {
        what: 'no environment, in production',
        argv: ['doctor'],
        isBare: true,
        env: { NODE_ENV: 'production' },
        code: 1,
      },
      {
        what: 'an environment file that is not there',
        argv: ['migrate', '--env-file', file('aqm.env')],
        isBare: true,
        code: 2,
      },
      {
        what: 'a line without an equals sign',
        argv: ['migrate', '--env-file', file('wrong.env')],
        isBare: true,
        code: 2,
      },
      { what: 'a file that contradicts the environment', argv: ['migrate', '--env-file', file('other.env')], code: 2 },
    ],
    'Files and folders': [
      {
        what: 'a secret in a file that is not there',
        argv: migrate,
        env: { DATABASE_URL: undefined, DATABASE_URL_FILE: file('nowhere') },
        code: 2,
      },
      {
        what: 'a secret in an empty file',
        argv: migrate,
        env: { DATABASE_URL: undefined, DATABASE_URL_FILE: file('empty.txt') },
        code: 2,
      },
      { what: 'no file of token keys', argv: serve, env: { AQM_TOKEN_PUBLIC_KEY_FILE: file('nowhere.pem') }, code: 2 },
      { what: 'a text in place of a key', argv: serve, env: { AQM_TOKEN_PUBLIC_KEY_FILE: file('note.txt') }, code: 2 },
      {
        what: 'token keys that the user must not read',
        argv: serve,
        env: { AQM_TOKEN_PUBLIC_KEY_FILE: file('locked.pem') },
        asNobody: true,
        code: 2,
      },
      { what: 'no certificate', argv: serve, env: tls(file('nowhere.crt'), file('0.key')), code: 2 },
      { what: 'the key of another certificate', argv: serve, env: tls(file('0.crt'), file('1.key')), code: 2 },
      {
        what: 'a key that the user must not read',
        argv: serve,
        env: tls(file('0.crt'), file('locked.key')),
        asNobody: true,
        code: 2,
      },
      {
        what: 'a folder of the fence that cannot be written',
        argv: serve,
        env: { AQM_FENCE_DIR: file('locked/fence') },
        asNobody: true,
        code: 1,
      },
      {
        what: 'a data folder that cannot be written',
        argv: serve,
        env: { DATABASE_URL: undefined, AQM_DATA_DIR: file('locked/data') },
        asNobody: true,
        code: 1,
      },
      { what: 'a private key for all to see', argv: ['jwks', file('private.pem')], code: 2 },
      { what: 'a text in place of a key', argv: ['jwks', file('token.pem'), file('note.txt')], code: 2 },
    ],
    'The database': [
      { what: 'an unknown role', argv: migrate, env: database(scene.url('aqm', 'amq:right')), code: 1 },
      { what: 'a wrong password', argv: status, env: database(scene.url('aqm', 'aqm:wrong')), code: 1 },
      { what: 'a wrong password', argv: serve, env: database(scene.url('aqm', 'aqm:wrong')), code: 1 },
      { what: 'no such database', argv: migrate, env: database(scene.url('amq')), code: 1 },
      { what: 'PostgreSQL is down', argv: migrate, env: database('postgresql://aqm@127.0.0.1:1/aqm'), code: 1 },
      { what: 'PostgreSQL is down', argv: serve, env: database('postgresql://aqm@127.0.0.1:1/aqm'), code: 1 },
      { what: 'PostgreSQL is down', argv: ['doctor'], env: database('postgresql://aqm@127.0.0.1:1/aqm'), code: 1 },
      {
        what: 'another folder than that of the socket',
        argv: stock,
        env: database('postgresql:///aqm?host=/srv/none&user=aqm'),
        code: 1,
      },
      { what: 'an unknown host', argv: migrate, env: database('postgresql://aqm@db.invalid/aqm'), code: 1 },
      {
        what: 'something else at the port',
        argv: migrate,
        env: database(`postgresql://aqm@${scene.otherAddress}/aqm`),
        code: 1,
      },
      {
        what: 'no file of the root certificate',
        argv: migrate,
        env: database(`postgresql://aqm@127.0.0.1:1/aqm?sslmode=verify-full&sslrootcert=${file('nowhere.crt')}`),
        code: 1,
      },
      { what: 'a PostgreSQL that is too old', argv: migrate, env: database(scene.oldUrl), code: 1 },
      { what: 'a PostgreSQL that is too old', argv: serve, env: database(scene.oldUrl), code: 1 },
      { what: 'a role that must not create tables', argv: migrate, env: database(scene.url('foreign_owner')), code: 1 },
      {
        what: 'a role that must not read the tables',
        argv: stock,
        env: database(scene.url('aqm', 'reader:right')),
        code: 1,
      },
      {
        what: 'a role that commits without waiting',
        argv: serve,
        env: database(scene.url('aqm', 'careless:right')),
        code: 1,
      },
      { what: 'PgBouncer without AQM_POOLER', argv: serve, env: database(scene.poolerUrl), code: 1 },
      { what: 'PgBouncer without AQM_POOLER', argv: migrate, env: database(scene.poolerUrl), code: 1 },
      {
        what: 'PgBouncer before "aqm migrate timeouts"',
        argv: serve,
        env: { ...database(scene.poolerUrl), AQM_POOLER: 'transaction' },
        code: 1,
      },
    ],
    'The order of commands, and decisions': [
      { what: 'serve before migrate', argv: serve, env: database(scene.url('older')), code: 1 },
      { what: 'an older version than that of the database', argv: serve, env: database(scene.url('newer')), code: 1 },
      { what: 'admin before migrate', argv: stock, env: database(scene.url('empty')), code: 1 },
      { what: 'undoing a migration over data', argv: ['migrate', 'down'], code: 1 },
      { what: 'no --yes where no terminal is', argv: ['migrate', 'down', '--even-if-data'], code: 2 },
      { what: 'no --yes where no terminal is', argv: ['admin', 'delete-user', USER], code: 2 },
      { what: 'no --yes where no terminal is', argv: ['admin', 'fence', 'retire'], code: 2 },
      { what: 'a decision although nothing is fenced', argv: ['admin', 'fence', 'accept', '--yes'], code: 1 },
      { what: 'an upgrade of the embedded PostgreSQL, with another', argv: ['upgrade-postgres'], code: 2 },
      { what: 'a port that is in use', argv: serve, env: { AQM_LISTEN: scene.otherAddress }, code: 1 },
      {
        what: 'an address of another machine',
        argv: serve,
        env: { AQM_LISTEN: '198.51.100.1:50051', AQM_PLAINTEXT: 'anywhere' },
        code: 1,
      },
    ],
  };
}
