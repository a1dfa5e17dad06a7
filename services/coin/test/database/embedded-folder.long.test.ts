import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BRONZE, ids, mint } from '../../../../testkit/coins';
import { logMessages, runCommand } from '../../../../testkit/command';
import { eventually } from '../../../../testkit/eventually';
import { postgresModule } from '../../../../testkit/postgres-versions';
import { AQM, type ServiceProcess, spawnMain } from '../../../../testkit/service-process';
import { developmentUser } from '../../../../testkit/user';
import { spawnUnprivileged } from '../../database/embedded-binaries';

let base: string;
let dataDir: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'aqm-embedded-'));
  dataDir = join(base, 'data');
});
afterEach(() => rmSync(base, { recursive: true }));

const path = (name: string) => join(dataDir, 'postgres', name);
/** The package of the platform, also where the suite runs on an older release. */
const DEFAULT_PACKAGE = { AQM_POSTGRES_PACKAGE: '' };
const start = (env: NodeJS.ProcessEnv = {}) => spawnMain(dataDir, { ...DEFAULT_PACKAGE, ...env });
/** Ends a service and keeps its data. */
const stop = ({ end }: ServiceProcess) => end('SIGTERM');
const command = (name: string, ...args: string[]) =>
  runCommand(name, args, { ...DEFAULT_PACKAGE, AQM_DATA_DIR: dataDir });
const postmasterPid = () => Number.parseInt(readFileSync(path('data/postmaster.pid'), 'utf8'), 10);
const connectionOf = async () => {
  const { code, stdout } = await command('doctor', '--json', '--least-free', '0');
  return { code, ...JSON.parse(stdout).checks.find(({ name }: { name: string }) => name === 'connection') };
};

/** Writes a file with the owner of the data, as PostgreSQL does. */
function writeAsPostgres(file: string, text: string): void {
  writeFileSync(file, text);
  const { uid, gid } = statSync(path('data'));
  chownSync(file, uid, gid);
}

describe('lock files whose number another process got after a power cut', () => {
  let other: ChildProcess;
  let signals: string[];
  beforeEach(async () => {
    expect(await stop(await start())).toBe(0);
    // As PostgreSQL's user, so that PostgreSQL takes it for a server. It would survive a SIGINT and say so.
    const script = 'trap "echo INT" INT; trap "echo QUIT" QUIT; echo ready; while :; do sleep 0.1; done';
    other = spawnUnprivileged('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] });
    signals = [];
    other.stdout?.on('data', (text: Buffer) => signals.push(...text.toString().trim().split('\n')));
    await eventually('it runs', () => signals.includes('ready'));
    const lock = `${other.pid}\n${path('data')}\n1764000000\n5432\n${path('socket')}\n\n 12345678         1\nready   \n`;
    writeAsPostgres(path('data/postmaster.pid'), lock);
    writeAsPostgres(path('socket/.s.PGSQL.5432.lock'), lock);
  });
  afterEach(async () => {
    expect(signals).toEqual(['ready']);
    expect([other.exitCode, other.signalCode]).toEqual([null, null]);
    const ended = once(other, 'exit');
    other.kill('SIGKILL');
    await ended;
  });

  test('do not keep the service from starting, and the other process is not touched', async () => {
    const service = await start();
    expect(postmasterPid()).not.toBe(other.pid);
    expect(service.log()).toContain('removing a stale lock file');
    expect(await stop(service)).toBe(0);
  });

  test.each([
    ['doctor', ['--least-free', '0']],
    ['migrate', ['status']],
  ])('aqm %s works too and touches no other process', async (name, args) => {
    expect(await command(name, ...args)).toMatchObject({ code: 0 });
  });
});

test('a number in users/ that another process got does not keep the server running', async () => {
  const service = await start();
  const other = spawn('sleep', ['600']);
  await once(other, 'spawn');
  const registered = readFileSync(path(`users/${service.child.pid}`), 'utf8');
  writeFileSync(path(`users/${other.pid}`), registered);
  expect(await stop(service)).toBe(0);
  expect(existsSync(path('data/postmaster.pid'))).toBe(false);
  expect(readdirSync(path('users'))).toEqual([]);
  other.kill('SIGKILL');
});

test.each([
  ['a comma and quotes', 'Last, "First" \'x\''],
  ['a path that is too long for a socket', 'a-rather-long-name-for-a-data-folder/'.repeat(4)],
])('serves from a folder with %s', async (_what, name) => {
  dataDir = join(base, name);
  expect(await stop(await start())).toBe(0);
});

test('serves although variables of libpq are set for another server', async () => {
  const service = await start({
    PGSSLMODE: 'require',
    PGSSLNEGOTIATION: 'direct',
    PGOPTIONS: '-c default_transaction_read_only=on -c search_path=elsewhere',
    PGHOST: 'db.example.invalid',
    PGPORT: '1',
    PGUSER: 'nobody',
    PGDATABASE: 'other',
    PGPASSWORD: 'x',
    PGCLIENT_ENCODING: 'LATIN1',
    PGREPLICATION: 'database',
  });
  const bob = await developmentUser(dataDir, service.address);
  await bob.upload(mint(1));
  bob.close();
  expect(await stop(service)).toBe(0);
});

test('a server that ends at once is reported with its last words', async () => {
  expect(await stop(await start())).toBe(0);
  writeAsPostgres(path('data/postgresql.auto.conf'), 'shared_buffers = nonsense\n');
  const { code, found } = await connectionOf();
  expect({ code, found }).toEqual({
    code: 1,
    found: expect.stringMatching(
      /does not start: configuration file .*postgresql\.auto\.conf.* contains errors\. See /,
    ),
  });
});

describe('data of another major version', () => {
  test('are refused at once with what to do', async () => {
    expect(await stop(await start())).toBe(0);
    for (const [version, ours] of [
      ['17', '18'],
      ['19', '18'],
    ] as const) {
      writeAsPostgres(path('data/PG_VERSION'), `${version}\n`);
      const sentence = `are of PostgreSQL ${version}, and the programs are of PostgreSQL ${ours}. Install those of ${version} beside them (npm install`;
      const { code, stderr } = await command('serve');
      expect(code).toBe(1);
      expect(stderr).toContain(sentence);
      expect(stderr).not.toContain('    at ');
      expect(await connectionOf()).toMatchObject({
        code: 1,
        verdict: 'fail',
        found: expect.stringContaining(sentence),
      });
    }
    expect(existsSync(path('postgresql.log'))).toBe(true);
    expect(readFileSync(path('postgresql.log'), 'utf8')).not.toContain('incompatible');
  });

  test('are copied by "aqm upgrade-postgres": stock, answers and epoch are the same', async () => {
    const older = postgresModule('postgres-17') ?? '';
    const before = await start({ AQM_POSTGRES_PACKAGE: older });
    const [bob, alice] = [
      await developmentUser(dataDir, before.address),
      await developmentUser(dataDir, before.address),
    ];
    const coins = mint(5);
    await bob.upload(coins);
    const request = {
      targetUserId: bob.id,
      coinCategory: BRONZE,
      count: 2,
      requestId: 'a3bb189e-8bf9-3888-9912-ace4e6543002',
    };
    const answer = ids((await alice.fetch(request)).coins);
    const { databaseEpoch } = await bob.count();
    const upgrade = () => command('upgrade-postgres', '--from', older);
    const inUse = await upgrade();
    expect(inUse).toMatchObject({ code: 1, stdout: '' });
    expect(inUse.stderr).toMatch(/^A service uses the PostgreSQL in .*\. Stop it, and run the command again\.$/m);
    expect(await stop(before)).toBe(0);

    const without = await command('upgrade-postgres', '--from', 'postgres-nowhere');
    expect(without.code).toBe(1);
    expect(without.stderr).toContain('the npm package postgres-nowhere is not installed. Install it: npm install');
    const { code, stdout } = await upgrade();
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining('copied: coin, 5 rows\n') });
    expect(stdout).toContain('next: run "aqm admin fence accept"');
    expect(await upgrade()).toMatchObject({ code: 0, stdout: expect.stringContaining('nothing to do') });
    expect(readdirSync(path('')).sort()).toEqual(
      expect.arrayContaining(['data', 'data-17', 'postgresql.log', 'users']),
    );
    expect(existsSync(path('upgrade'))).toBe(false);

    expect(await command('admin', 'fence', 'status')).toMatchObject({ code: 3 });
    expect(await command('admin', 'fence', 'accept', '--yes')).toMatchObject({ code: 0 });
    const after = await start();
    const [sameBob, sameAlice] = await Promise.all(
      [bob, alice].map(({ id }) => developmentUser(dataDir, after.address, id)),
    );
    if (!sameBob || !sameAlice) throw new Error('no users');
    expect((await sameBob.count()).databaseEpoch).toBe(databaseEpoch);
    expect(ids((await sameAlice.fetch(request)).coins)).toEqual(answer);
    const rest = await sameAlice.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 5 });
    expect(ids(rest.coins)).toEqual(ids(coins.slice(2)));
    // New uploads come after the older ones: the sequence was copied.
    await sameBob.upload(mint(1));
    for (const user of [bob, alice, sameBob, sameAlice]) user.close();
    expect(await stop(after)).toBe(0);
  });

  test('a copy that was interrupted is refused by services and done again', async () => {
    const older = postgresModule('postgres-17') ?? '';
    expect(await stop(await start({ AQM_POSTGRES_PACKAGE: older }))).toBe(0);
    const interrupted = spawn(process.execPath, [AQM, 'upgrade-postgres', '--from', older], {
      env: { ...process.env, ...DEFAULT_PACKAGE, DATABASE_URL: '', AQM_DATA_DIR: dataDir },
      stdio: 'ignore',
    });
    const ended = once(interrupted, 'exit');
    await eventually('both servers run', () => existsSync(path('upgrade/newer/data/postmaster.pid')));
    interrupted.kill('SIGKILL');
    await ended;
    const { code, stderr } = await command('serve');
    expect(code).toBe(1);
    expect(logMessages(stderr)).toContain('run "aqm upgrade-postgres" again');
    expect(await command('upgrade-postgres', '--from', older)).toMatchObject({ code: 0 });
    expect(await command('migrate', 'status')).toMatchObject({ code: 0 });
  });
});
