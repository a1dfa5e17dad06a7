import { execFile } from 'node:child_process';
import { createPublicKey, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { credentials } from '@grpc/grpc-js';
import { sql } from 'kysely';
import { openDeviceStorage, publishCoins } from '../../device';
import { mintedCoin } from '../../device/conformance/harness';
import type { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { CoinServiceClient, CoinUploadResult_Outcome as Outcome } from '../../gen/aqm/coin/v1/coin_service';
import { BRONZE, GOLD, ids, mint } from '../../testkit/coins';
import { applyDiff, type Block, blocksOf, runShell } from '../../testkit/document';
import { ROOT } from '../../testkit/root';
import { startService, type TestService } from '../../testkit/service';
import type { User } from '../../testkit/user';
import { copyRepository, type RepositoryCopy } from './repository-copy';
import { serve } from './serve';

const PLATINUM = Number(4) as CoinCategory;
const SOURCES = ['proto', 'device', 'migrations'];

/** A service of this checkout that runs all the time; the other versions share its database and its tokens. */
let service: TestService;
let copy: RepositoryCopy;
let folder: string;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  service = await startService();
  copy = copyRepository();
  folder = mkdtempSync(join(tmpdir(), 'aqm-playbook-'));
  env = { ...service.database.env, AQM_DATA_DIR: folder };
});
afterAll(async () => {
  copy.remove();
  rmSync(folder, { recursive: true, force: true });
  await service.stop();
});

/** Returns the blocks of a chapter, with the number of its migration filled in. */
function chapter(heading: string): { diffs: string[]; shells: string[] } {
  const next = String(readdirSync(join(ROOT, 'migrations')).filter((file) => file.endsWith('.up.sql')).length + 1);
  const blocks = blocksOf('migration-playbook.md', heading);
  const texts = (language: string) =>
    blocks
      .filter((block: Block) => block.language === language)
      .map(({ text }) => text.replaceAll('NNNN', next.padStart(4, '0')));
  return { diffs: texts('diff'), shells: texts('sh') };
}

const shell = (text = 'false') => runShell(text, { cwd: copy.root, env });

/** Expects the state of the schema in the view of this checkout, which does not know PLATINUM. */
async function schemaIs(state: 'current' | 'newer'): Promise<void> {
  const command = `npm run --silent migrate -- status${state === 'current' ? '' : ' # exit code 3'}`;
  const [answer] = await runShell(command, { cwd: ROOT, env });
  expect(answer?.stdout).toContain(`schema: ${state}`);
}

/** Uploads and fetches as an old client without a pause, until it is stopped. */
function keepUsing(bob: User, alice: User): { stop(): Promise<number> } {
  let isOver = false;
  const rounds = (async () => {
    let done = 0;
    for (; !isOver || done === 0; done += 1) {
      const coins = mint(1, BRONZE);
      await bob.upload(coins);
      const answer = await alice.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });
      expect(ids(answer.coins)).toEqual(ids(coins));
    }
    return done;
  })();
  // Stopping it rethrows a failure.
  rounds.catch(() => undefined);
  return {
    stop: () => {
      isOver = true;
      return rounds;
    },
  };
}

describe('adding a coin category', () => {
  const { diffs, shells } = chapter('Add a coin category');
  const [build, migrate, undo] = shells;
  const device = { path: '', key: randomBytes(32) };
  let bob: User;
  let alice: User;

  beforeAll(async () => {
    device.path = join(folder, 'bob.db');
    [bob, alice] = await Promise.all([service.user(), service.user()]);
    const old = await openDeviceStorage({ backend: 'sqlite', ...device });
    await old.vault.storeKey(mintedCoin(1));
    await old.close();
  });

  test('the edits of the playbook are all it takes to build, and break no contract', async () => {
    for (const diff of diffs) applyDiff(copy.root, diff);
    await shell(build);
  });

  test('while a transaction holds the table the migration gives up and changes nothing', async () => {
    const [held] = chapter('Change the schema without downtime').shells;
    await service.database.db.transaction().execute(async (transaction) => {
      await sql`LOCK TABLE coin IN ACCESS SHARE MODE`.execute(transaction);
      await shell(held);
    });
    await schemaIs('current');
  });

  test('the schema changes under a running old service, which does not start on it again', async () => {
    const using = keepUsing(bob, alice);
    const [before, up, after] = await shell(migrate);
    expect(await using.stop()).toBeGreaterThan(0);
    expect(before?.stdout).toMatch(/missing: \d{4}_add_platinum/);
    expect(up?.stdout).toMatch(/applied: \d{4}_add_platinum/);
    expect(after?.stdout).toContain('current');
    await expect(serveHere()).rejects.toThrow('newer than this version');
  });

  test('a new service beside the old one serves new devices, on their old files, and old clients', async () => {
    const next = await serve('npm start', { cwd: copy.root, env: settingsOfAnother() });
    try {
      const [oldBob, oldAlice] = await Promise.all(
        [bob, alice].map(({ id }) => service.user({ id, address: next.address })),
      );
      if (!oldBob || !oldAlice) throw new Error('no users');
      await keepUsing(oldBob, oldAlice).stop();
      const args = [join(__dirname, 'platinum-device.cjs'), copy.root, folder];
      const { stdout } = await promisify(execFile)(process.execPath, args, {
        env: {
          ...process.env,
          ADDRESS: next.address,
          BOB: bob.id,
          BOB_TOKEN: bob.token,
          ALICE_TOKEN: alice.token,
          OLD_FILE: device.path,
          OLD_KEY: device.key.toString('hex'),
        },
      });
      const [gold, ...platinum] = JSON.parse(stdout) as string[];
      // Alice's device holds the gold one and two of platinum. One is left, which old clients neither see nor get.
      for (const old of [bob, oldBob]) expect((await old.count()).available).toEqual({ gold: 0, silver: 0, bronze: 0 });
      const wish = { targetUserId: bob.id, coinCategory: GOLD, count: 5, allowLowerCategories: true };
      for (const old of [alice, oldAlice]) expect((await old.fetch(wish)).coins).toEqual([]);
      expect((await oldAlice.fetch({ ...wish, coinCategory: PLATINUM, count: 1 })).coins).toHaveLength(1);
      // To an old service the category is an unknown number.
      const unknown = { ...wish, coinCategory: PLATINUM };
      await expect(alice.fetch(unknown)).rejects.toMatchObject({ reason: 'INVALID_FIELD', fields: ['coin_category'] });
      // What was handed out stays spent at both services.
      const again = mint(1, GOLD, { keyId: gold });
      expect((await bob.upload(again)).results[0]?.outcome).toBe(Outcome.OUTCOME_SPENT);
      // A device that goes back to the old library keeps what it holds.
      const back = await openDeviceStorage({ backend: 'sqlite', ...device });
      expect(await back.vault.fetchKey(platinum[1] ?? '')).toMatchObject({ coinCategory: 'PLATINUM' });
      expect(await back.vault.burnKey(platinum[1] ?? '')).toBe(true);
      expect(await back.vault.countActive('GOLD')).toBe(2);
      const client = new CoinServiceClient(next.address, credentials.createInsecure());
      await expect(publishCoins(back, { client, token: () => bob.token }, [])).rejects.toThrow('PLATINUM');
      client.close();
      await back.close();
    } finally {
      await next.stop();
    }
  });

  test('it is not removed while a coin of it is left', async () => {
    await expect(shell(undo)).rejects.toThrow('exit code 1');
    await schemaIs('newer');
  });

  test('it is removed when the last coin is forgotten, and everything is as before', async () => {
    // 31 days later.
    for (const [table, column] of [
      ['coin', 'expire_time'],
      ['coin_stock', 'expire_time'],
      ['coin_stock', 'upload_time'],
      ['coin_fetch', 'fetch_time'],
    ] as const) {
      await service.age(table, column, '31 days');
    }
    await service.store.purgeStale(30);
    await service.store.hardDeleteFetched(0);
    await service.store.forgetSpent();
    const [down] = await shell(undo);
    expect(down?.stdout).toMatch(/undone: \d{4}_add_platinum/);
    for (const diff of diffs) applyDiff(copy.root, diff, 'backwards');
    await runShell('npm run --silent migrate -- dump', { cwd: copy.root, env });
    expect(copy.changes(SOURCES)).toEqual([]);
    // The previous version starts on it again.
    await (await serveHere()).stop();
  });
});

test('budget caps at the service: a restart with another value', async () => {
  const [command = ''] = chapter('Change budget caps').shells;
  const restarted = await serve(command, { cwd: copy.root, env: settingsOfAnother() });
  try {
    const user = await service.user({ address: restarted.address });
    const { results } = await user.upload(mint(4));
    expect(results.map(({ outcome }) => outcome)).toEqual([
      ...Array(3).fill(Outcome.OUTCOME_INSERTED),
      Outcome.OUTCOME_OVER_STOCK_LIMIT,
    ]);
  } finally {
    await restarted.stop();
  }
});

test('evolving the proto: an added field passes, a changed one is refused, a release records what is promised', async () => {
  const { diffs, shells } = chapter('Evolve the proto');
  const [added = '', changed = ''] = diffs;
  const [checks, refused, release] = shells;
  applyDiff(copy.root, added);
  await shell(checks);
  applyDiff(copy.root, changed);
  await shell(refused);
  applyDiff(copy.root, changed, 'backwards');
  await shell(release);
  await shell(checks);
  // After the release the added field is promised too.
  applyDiff(copy.root, added, 'backwards');
  await shell(refused);
});

/** Starts the service of this checkout as a process beside the one that runs. */
const serveHere = () => serve('npm start', { cwd: ROOT, env: settingsOfAnother() });

/** Returns the settings of a further service on the same database, with the same token key and its own folder. */
function settingsOfAnother(): NodeJS.ProcessEnv {
  const dataDir = mkdtempSync(join(folder, 'service-'));
  const keyFile = join(dataDir, 'public-key.pem');
  writeFileSync(keyFile, createPublicKey(service.privateKey).export({ type: 'spki', format: 'pem' }));
  return { ...env, AQM_DATA_DIR: dataDir, AQM_TOKEN_PUBLIC_KEY_FILE: keyFile };
}
