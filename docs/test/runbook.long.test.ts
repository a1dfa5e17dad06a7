import { randomUUID } from 'node:crypto';
import type { CallError } from '../../testkit/call';
import { BRONZE, mint } from '../../testkit/coins';
import { eventually } from '../../testkit/eventually';
import type { User } from '../../testkit/user';
import { Operation } from './operation';
import { type Commands, commandsBySection } from './sections';

const sections = commandsBySection('docs/runbook.md');

let operation: Operation;
let bob: User;
let alice: User;
beforeAll(async () => {
  operation = new Operation();
  await operation.start();
  [bob, alice] = [await operation.user(operation.bobId), await operation.user(randomUUID())];
  await bob.upload(mint(20));
  await fetchOne();
});
afterAll(() => operation?.stop());

/** Fetches one coin. @returns the number of coins, or the reason of the failure */
async function fetchOne(): Promise<number | string> {
  try {
    const wish = { targetUserId: bob.id, coinCategory: BRONZE, count: 1, requestId: randomUUID() };
    return (await alice.fetch(wish)).coins.length;
  } catch (error) {
    return (error as CallError).reason;
  }
}

const isAccepted = (user: User) =>
  user.count().then(
    () => true,
    ({ reason }: CallError) => {
      if (reason !== 'TOKEN_INVALID') throw new Error(`refused because of ${reason}`);
      return false;
    },
  );
const answers = (what: number | string) =>
  eventually(`a fetch that answers ${what}`, async () => (await fetchOne()) === what);

/** The sections whose commands need a certain situation: it is set up, and the effect of the commands is checked. */
const SITUATIONS: Readonly<Record<string, (...blocks: Commands[]) => Promise<void>>> = {
  'First look': async (all) => {
    const said = await operation.type(all);
    expect(said).toMatch(/^ok +fence +the database is open/m);
    expect(said).toMatch(/^schema: current$/m);
  },
  "One user's coins": async (stock) => {
    expect(await operation.type(stock)).toMatch(/^BRONZE +19 +0 +1 +0 /m);
  },
  'Export a user': async (exporting) => {
    const said = await operation.type(exporting);
    const { user, coins, fetchesOfUser } = JSON.parse(said.slice(said.indexOf('{')));
    expect([user, coins.length, fetchesOfUser.length]).toEqual([operation.bobId, 20, 1]);
  },
  'Delete a user': async (deletion) => {
    const ended = await operation.user(randomUUID());
    await ended.upload(mint(3));
    expect(await operation.type(deletion, { USER_ID: ended.id })).toMatch(/^deleted: 4 coins and records\n$/m);
    await expect(ended.upload(mint(1))).rejects.toMatchObject({ reason: 'USER_DELETED' });
  },
  Purges: async (purges) => {
    expect(await operation.type(purges)).toMatch(/^deleted: 0 coins\n(?:.*\n)*deleted: 0 coins\n$/m);
  },
  'After a restore': async (status, retire, accept) => {
    const { databaseEpoch: epoch } = await bob.count();
    await operation.loseACoin();
    await answers('FENCED');
    expect(await operation.type(status)).toMatch(/^fence: fenced: it lacks 1 of the /m);
    expect(await fetchOne()).toBe('FENCED');
    expect(await operation.type(retire)).toMatch(/^fence: open$/m);
    await answers(0);
    const { databaseEpoch: next } = await bob.count();
    expect(next).not.toBe(epoch);

    await bob.upload(mint(10));
    expect(await fetchOne()).toBe(1);
    await operation.loseACoin();
    await answers('FENCED');
    await operation.type(accept);
    await answers(1);
    expect((await bob.count()).databaseEpoch).toBe(next);
  },
  'Synchronous replication': async (on, off) => {
    await operation.startStandby();
    await operation.type(on);
    const isConfirmed = "EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'quorum')";
    await operation.primary.until(isConfirmed);
    expect(await fetchOne()).toBe(1);
    await operation.type(off);
    await operation.primary.until(`NOT ${isConfirmed}`);
  },
  Failover: async (promote, status) => {
    const { databaseEpoch: epoch } = await bob.count();
    const written = await operation.primary.query('SELECT pg_current_wal_lsn()');
    await operation.standby.until(`pg_last_wal_replay_lsn() >= '${written}'`);
    await operation.primary.stop();
    await operation.type(promote);
    operation.leadTo(operation.standby);
    expect(await operation.type(status)).toMatch(/^fence: open$/m);
    await answers(1);
    expect((await bob.count()).databaseEpoch).toBe(epoch);
  },
  'Rotating token keys': async (both, onlyNew) => {
    const bobLater = await operation.user(bob.id, operation.newKey);
    expect([await isAccepted(bob), await isAccepted(bobLater)]).toEqual([true, false]);
    expect(await operation.type(both)).toMatch(/^ok +tokens +2 public keys in /m);
    await eventually('the new key', () => isAccepted(bobLater));
    expect(await isAccepted(bob)).toBe(true);
    await operation.type(onlyNew);
    await eventually('the end of the old key', async () => !(await isAccepted(bob)));
    expect(await isAccepted(bobLater)).toBe(true);
  },
  'Draining a node': async (drain) => {
    const { child } = operation.service;
    await operation.type(drain);
    expect(child.exitCode).toBe(0);
  },
  'Upgrading without downtime': async (migrate) => {
    expect(await operation.type(migrate)).toMatch(/^schema: current\n(?:.*\n)*schema: current\n$/m);
  },
  PgBouncer: async (timeouts) => {
    const said = await operation.type(timeouts, await operation.startPgBouncer());
    expect(said).toMatch(/^set: statement_timeout = 5000 ms$/m);
    expect(said).toMatch(/cl_waiting/);
  },
};

test.each([...sections])('%s', async (name, blocks) => {
  const situation = SITUATIONS[name];
  if (situation) await situation(...blocks);
  else for (const block of blocks) expect((await operation.type(block)).length).toBeGreaterThan(0);
});

test('every situation belongs to a section, and takes all of its commands', () => {
  for (const [name, situation] of Object.entries(SITUATIONS))
    expect([name, sections.get(name)?.length]).toEqual([name, situation.length]);
});
