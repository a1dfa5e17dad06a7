import { randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BRONZE, ids, mint } from '../../../../testkit/coins';
import { runCommand } from '../../../../testkit/command';
import { eventually } from '../../../../testkit/eventually';
import { Cluster } from '../../../../testkit/postgres-cluster';
import { type ServiceProcess, spawnMain } from '../../../../testkit/service-process';
import { developmentUser, type User } from '../../../../testkit/user';

const FETCHES = 10_000;
const CALLERS = 24;
/** The share of the fetches that begin before the deletion. */
const BEFORE = 0.4;

let folder: string;
let cluster: Cluster;
const services: ServiceProcess[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-end-'));
  cluster = new Cluster(join(folder, 'cluster'));
  await cluster.init();
  // Without recycling, a segment of the write-ahead log is removed when no crash needs it any more. A service requires fsync.
  await cluster.start(['wal_recycle=off', 'autovacuum=off', 'fsync=on']);
  await cluster.query('CREATE DATABASE aqm', 'postgres');
});
afterAll(async () => {
  for (const { end } of services) await end('SIGKILL');
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
});

const env = () => ({ DATABASE_URL: cluster.url(), AQM_FENCE_DIR: join(folder, 'fence'), AQM_LOG_LEVEL: 'info' });

async function start(): Promise<ServiceProcess> {
  const service = await spawnMain(join(folder, 'data'), env());
  services.push(service);
  return service;
}

/** Returns the files below a folder that contain the id, in binary or as text. */
function filesNaming(id: string, below: string): string[] {
  const digits = id.replaceAll('-', '');
  const forms = [Buffer.from(digits, 'hex'), ...[id, digits, id.toUpperCase()].map((text) => Buffer.from(text))];
  return readdirSync(below, { recursive: true, encoding: 'utf8' }).filter((name) => {
    const file = join(below, name);
    if (!statSync(file, { throwIfNoEntry: false })?.isFile()) return false;
    const bytes = readFileSync(file);
    return forms.some((form) => bytes.includes(form));
  });
}

test('DeleteUser racing 10,000 fetches and uploads leaves no coin to anybody and no byte of the id', async () => {
  const [first, second] = [await start(), await start()];
  const ended = randomUUID();
  const connect = (id?: string) =>
    Promise.all([first, second].map(({ address }) => developmentUser(join(folder, 'data'), address, id)));
  const bobs = await connect(ended);
  const callers = await Promise.all(Array.from({ length: CALLERS }, () => connect(randomUUID())));
  const at = (user: readonly User[], turn: number): User => user[turn % user.length] as User;

  let begun = 0;
  let isDeleted = false;
  let deletion: Promise<number> | undefined;
  let afterwards = 0;
  let refusedUploads = 0;
  let refusedFetches = 0;
  let got = 0;
  const onRefused = (error: { reason?: string }) => {
    if (error.reason !== 'USER_DELETED') throw error;
    return undefined;
  };
  const lap = async (caller: readonly User[], index: number): Promise<void> => {
    for (let turn = index; begun < FETCHES; turn += 1) {
      begun += 2;
      if (begun > FETCHES * BEFORE) {
        deletion ??= at(bobs, 0)
          .deleteUser(ended)
          .then((count) => {
            isDeleted = true;
            return count;
          });
      }
      const late = isDeleted;
      const request = { targetUserId: ended, coinCategory: BRONZE, count: 1, requestId: randomUUID() };
      const { coins } = await at(caller, turn).fetch(request);
      got += coins.length;
      if (late) afterwards += coins.length;
      const target = {
        targetUserId: at(callers[(index + turn) % CALLERS] ?? caller, 0).id,
        coinCategory: BRONZE,
        count: 1,
      };
      const byBob = await at(bobs, turn).fetch(target).catch(onRefused);
      if (late && byBob) afterwards += 1;
      if (!byBob) refusedFetches += 1;
      if (turn % 8 === 0) {
        const lateUpload = isDeleted;
        const answer = await at(bobs, turn).upload(mint(20)).catch(onRefused);
        if (lateUpload && answer) afterwards += 1;
        if (!answer) refusedUploads += 1;
        await at(caller, turn).upload(mint(10));
      }
    }
  };
  await at(bobs, 0).upload(mint(100));
  await Promise.all(callers.map(lap));
  expect(await deletion).toBeGreaterThan(0);
  expect(afterwards).toBe(0);
  expect(got).toBeGreaterThan(100);
  expect(refusedUploads).toBeGreaterThan(0);
  expect(refusedFetches).toBeGreaterThan(0);
  expect(await at(bobs, 0).deleteUser(ended)).toBe(0);

  // VACUUM without FULL frees space and does not overwrite it: the bytes stay until other rows take their place.
  await cluster.query('VACUUM (FULL, ANALYZE)');
  await cluster.query('SELECT pg_switch_wal()');
  await cluster.query('CHECKPOINT');
  expect(filesNaming(ended, join(folder, 'cluster'))).toEqual([]);
  // A claim from before the deletion may have been recorded after it; its service notices ten seconds later.
  await eventually(
    'the watermark does not name the user',
    () => filesNaming(ended, join(folder, 'fence')).length === 0,
  );
  expect(filesNaming(ended, folder)).toEqual([]);
  expect([first, second].filter((service) => service.log().includes(ended))).toEqual([]);
  expect(await cluster.query('SELECT count(*) FROM database_deletion')).toBe('1');

  for (const users of [bobs, ...callers]) for (const user of users) user.close();
  for (const { end } of [first, second]) expect(await end('SIGTERM')).toBe(0);
  const status = await runCommand('admin', ['fence', 'status'], env());
  expect(status).toMatchObject({ code: 0 });
  const again = await start();
  const carol = await developmentUser(join(folder, 'data'), again.address, randomUUID());
  await carol.upload(mint(3));
  expect(ids((await carol.fetch({ targetUserId: carol.id, coinCategory: BRONZE, count: 3 })).coins)).toHaveLength(3);
  carol.close();
  expect(await again.end('SIGTERM')).toBe(0);
});
