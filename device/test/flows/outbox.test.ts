import { DAY, type Fixture, keyId, mintedCoin, passTime, vaultKey, withFixture } from '../../conformance/harness';
import { eachBackend } from '../each-backend';
import { keptHalves } from './kept-halves';

const backend = eachBackend();
const EPOCH = '11111111-1111-4111-8111-111111111111';
const OTHER_EPOCH = '22222222-2222-4222-8222-222222222222';

const withStorage = (test: (fixture: Fixture) => Promise<void>) => withFixture(backend.harness, test);

/** Publishes coins 1 to 3, which are acknowledged under EPOCH. */
async function publishThree({ storage: { outbox } }: Fixture): Promise<void> {
  await outbox.add([mintedCoin(1), mintedCoin(2, 'BRONZE'), mintedCoin(3)]);
  await outbox.takeBatch(EPOCH, 0, 10);
  await outbox.acknowledge([1, 2, 3].map(keyId));
}

const waiting = async ({ storage: { outbox } }: Fixture, epoch = EPOCH) =>
  (await outbox.takeBatch(epoch, 0, 100)).coins.map((coin) => coin.keyId);

const kept = ({ childConfig, clock }: Fixture) => keptHalves(childConfig, clock.now);

backend.describe('public halves of acknowledged coins', () => {
  it('leave the outbox, and are put back whole, behind the coins that wait', () =>
    withStorage(async (fixture) => {
      const { outbox } = fixture.storage;
      await publishThree(fixture);
      expect(await waiting(fixture)).toStrictEqual([]);
      await outbox.add([mintedCoin(9)]);
      expect(await outbox.publishAgain(EPOCH, [2, 1].map(keyId))).toStrictEqual([2, 1].map(keyId));
      const { coins, dropped } = await outbox.takeBatch(EPOCH, 0, 100);
      expect([coins.map((coin) => coin.keyId), dropped]).toStrictEqual([[9, 2, 1].map(keyId), []]);
      const { publicKey, signature } = mintedCoin(2, 'BRONZE');
      expect(coins[1]).toMatchObject({ coinCategory: 'BRONZE', publicKey, signature });
      expect(coins[1]?.expireTime).toStrictEqual(fixture.clock.in(23 * DAY));
      expect(await kept(fixture)).toBe(1);
    }));

  it('are never put back under another epoch than they were sent under', () =>
    withStorage(async (fixture) => {
      const { outbox } = fixture.storage;
      await publishThree(fixture);
      expect(await outbox.publishAgain(OTHER_EPOCH, [keyId(1)])).toStrictEqual([]);
      expect(await outbox.publishAgain(EPOCH, [1, 2].map(keyId))).toStrictEqual([keyId(2)]);
      // A coin that was put back in one epoch and is taken in the next is dropped, like every coin that was sent
      // before.
      const { coins, dropped } = await outbox.takeBatch(OTHER_EPOCH, 0, 100);
      expect(coins).toStrictEqual([]);
      expect(dropped).toStrictEqual([{ keyId: keyId(2), coinCategory: 'BRONZE', reason: 'EPOCH_CHANGED' }]);
    }));

  it('are not put back once their private half is burned, purged or expired', () =>
    withStorage(async (fixture) => {
      const { outbox, vault } = fixture.storage;
      await publishThree(fixture);
      await vault.burnKey(keyId(1));
      expect(await kept(fixture)).toBe(2);
      expect(await outbox.publishAgain(EPOCH, [keyId(1)])).toStrictEqual([]);
      await passTime(fixture, 30 * DAY);
      expect(await outbox.publishAgain(EPOCH, [2, 3].map(keyId))).toStrictEqual([]);
      await vault.purgeExpired();
      expect(await kept(fixture)).toBe(0);
      expect(await waiting(fixture)).toStrictEqual([]);
    }));

  it('are dropped before they are sent when their private half is burned after they were put back', () =>
    withStorage(async (fixture) => {
      const { outbox, vault } = fixture.storage;
      await publishThree(fixture);
      await outbox.publishAgain(EPOCH, [keyId(1)]);
      await vault.burnKey(keyId(1));
      expect((await outbox.takeBatch(EPOCH, 0, 100)).dropped).toMatchObject([{ keyId: keyId(1), reason: 'BURNED' }]);
    }));

  it('are forgotten when the coin service reports that they cannot be fetched', () =>
    withStorage(async (fixture) => {
      const { outbox } = fixture.storage;
      await publishThree(fixture);
      await outbox.remove([keyId(1)], 'SPENT');
      expect(await kept(fixture)).toBe(2);
      expect(await outbox.publishAgain(EPOCH, [keyId(1)])).toStrictEqual([]);
    }));

  it('are put back only if they may be sent under the epoch', () =>
    withStorage(async (fixture) => {
      const { outbox } = fixture.storage;
      await outbox.add([mintedCoin(1)]);
      await outbox.takeBatch(OTHER_EPOCH, 0, 10);
      await outbox.add([mintedCoin(2)]);
      expect(await outbox.publishAgain(EPOCH, [1, 2, 3].map(keyId))).toStrictEqual([keyId(2)]);
    }));

  it('are not uploaded as new when they are minted again', () =>
    withStorage(async (fixture) => {
      await publishThree(fixture);
      expect(await fixture.storage.outbox.add([mintedCoin(1)])).toMatchObject([{ reason: 'SENT_BEFORE' }]);
    }));

  it('are kept when the clock says that they expired before the answer came, and are put back when it is right', () =>
    withStorage(async (fixture) => {
      const { outbox } = fixture.storage;
      await outbox.add([mintedCoin(1), mintedCoin(2)]);
      await outbox.takeBatch(EPOCH, 0, 1);
      await passTime(fixture, 30 * DAY);
      const { dropped } = await outbox.takeBatch(EPOCH, 0, 100);
      expect(dropped).toMatchObject([{ reason: 'EXPIRED' }, { reason: 'EXPIRED' }]);
      await passTime(fixture, -30 * DAY);
      expect(await outbox.publishAgain(EPOCH, [1, 2].map(keyId))).toStrictEqual([keyId(1)]);
      // The other one never left the device.
      expect(await outbox.add([mintedCoin(2)])).toStrictEqual([]);
      expect(await waiting(fixture)).toStrictEqual([1, 2].map(keyId));
    }));

  it('survive closing and opening, and are kept once, however many handles acknowledge them', () =>
    withStorage(async (fixture) => {
      const other = await fixture.open();
      await publishThree(fixture);
      await other.outbox.acknowledge([1, 2, 3].map(keyId));
      await fixture.storage.close();
      expect(await kept(fixture)).toBe(3);
      expect(await other.outbox.publishAgain(EPOCH, [keyId(3)])).toStrictEqual([keyId(3)]);
    }));
});

backend.describe('the final outcome of a coin', () => {
  it.each(['CONFLICT', 'SPENT', 'EXPIRED', 'EPOCH_CHANGED'] as const)(
    '%s stays as long as its private half',
    (outcome) =>
      withStorage(async (fixture) => {
        const { outbox, vault } = fixture.storage;
        // One was acknowledged, one waits, and one was stored in the vault only.
        await outbox.add([mintedCoin(1)]);
        await outbox.takeBatch(EPOCH, 0, 10);
        await outbox.acknowledge([keyId(1)]);
        await outbox.add([mintedCoin(2)]);
        await vault.storeKey(vaultKey(3));
        const ids = [1, 2, 3].map(keyId);
        await outbox.remove([...ids, keyId(4)], outcome);
        // A later outcome does not replace it.
        await outbox.remove(ids, outcome === 'SPENT' ? 'EXPIRED' : 'SPENT');
        await fixture.storage.close();
        const again = await fixture.open();
        expect(await kept(fixture)).toBe(0);
        expect(await again.outbox.publishAgain(EPOCH, ids)).toStrictEqual([]);
        const refused = await again.outbox.add([1, 2, 3, 4].map((n) => mintedCoin(n)));
        expect(refused).toStrictEqual(ids.map((id) => ({ keyId: id, coinCategory: 'GOLD', reason: outcome })));
        expect(await again.outbox.conflictsAmong([...ids, keyId(4)])).toStrictEqual(outcome === 'CONFLICT' ? ids : []);
        await again.vault.burnKey(keyId(1));
        expect(await again.outbox.conflictsAmong([keyId(1)])).toStrictEqual([]);
        expect(await again.outbox.add([mintedCoin(1)])).toMatchObject([{ reason: 'BURNED' }]);
      }),
  );

  it('is remembered of coins that were sent under another epoch, and not of those that never were', () =>
    withStorage(async (fixture) => {
      const { outbox } = fixture.storage;
      await publishThree(fixture);
      await outbox.add([mintedCoin(4), mintedCoin(5)]);
      await outbox.takeBatch(EPOCH, 0, 1);
      // One is found when the outbox is read, one when its public half is wanted again.
      const { coins, dropped } = await outbox.takeBatch(OTHER_EPOCH, 0, 100);
      expect([coins, dropped]).toMatchObject([[{ keyId: keyId(5) }], [{ keyId: keyId(4), reason: 'EPOCH_CHANGED' }]]);
      expect(await outbox.publishAgain(OTHER_EPOCH, [keyId(1)])).toStrictEqual([]);
      expect(await outbox.add([1, 4, 5].map((n) => mintedCoin(n)))).toMatchObject([
        { keyId: keyId(1), reason: 'EPOCH_CHANGED' },
        { keyId: keyId(4), reason: 'EPOCH_CHANGED' },
      ]);
      // Not under the first epoch either, should it ever come back.
      expect(await outbox.publishAgain(EPOCH, [1, 4].map(keyId))).toStrictEqual([]);
    }));
});

backend.describe('a private half that is in the vault already', () => {
  it('gets its public half into the outbox, once, and stays as it is', () =>
    withStorage(async ({ storage: { outbox, vault }, clock }) => {
      const expiresAt = clock.in(20 * DAY);
      await vault.storeKey(vaultKey(1, { expiresAt }));
      await vault.storeKey(vaultKey(2, { expiresAt }));
      clock.advance(DAY);
      const coins = [mintedCoin(1), { ...mintedCoin(2), expiresAt }, mintedCoin(1)];
      expect(await outbox.add(coins)).toStrictEqual([]);
      expect(await outbox.add(coins)).toStrictEqual([]);
      const batch = await outbox.takeBatch(EPOCH, 0, 10);
      expect(batch.coins.map((coin) => coin.keyId)).toStrictEqual([1, 2].map(keyId));
      expect(batch.coins[0]?.expireTime).toStrictEqual(new Date(expiresAt.getTime() - 7 * DAY));
      expect((await vault.fetchKey(keyId(1)))?.expiresAt).toStrictEqual(expiresAt);
    }));

  it('refuses a coin with another private half, public half, category or expiry', () =>
    withStorage(async ({ storage: { outbox, vault }, clock }) => {
      await vault.storeKey(vaultKey(1));
      const others = [
        { ...mintedCoin(1), encryptedBlob: mintedCoin(2).encryptedBlob },
        mintedCoin(1, 'SILVER'),
        { ...mintedCoin(1), expiresAt: clock.in(DAY) },
      ];
      for (const other of others) expect(await outbox.add([other])).toMatchObject([{ reason: 'OTHER_KEY_HELD' }]);
      expect((await outbox.takeBatch(EPOCH, 0, 10)).coins).toStrictEqual([]);
      const { publicKey } = mintedCoin(2);
      await outbox.add([mintedCoin(1)]);
      expect(await outbox.add([{ ...mintedCoin(1), publicKey }])).toMatchObject([{ reason: 'OTHER_KEY_HELD' }]);
      await outbox.takeBatch(EPOCH, 0, 10);
      await outbox.acknowledge([keyId(1)]);
      expect(await outbox.add([{ ...mintedCoin(1), publicKey }])).toMatchObject([{ reason: 'OTHER_KEY_HELD' }]);
    }));
});

backend.describe('a batch of the outbox', () => {
  const names = (coins: readonly { keyId: string }[]) =>
    coins.map((coin) => Number.parseInt(coin.keyId.slice(-12), 16));

  it('examines the next coins only: what must not be sent is removed when it is met', () =>
    withStorage(async ({ storage: { outbox, vault } }) => {
      await outbox.add([1, 2, 3, 4].map((n) => mintedCoin(n)));
      for (const n of [1, 4]) await vault.burnKey(keyId(n));
      const first = await outbox.takeBatch(EPOCH, 0, 1);
      expect([names(first.coins), names(first.dropped)]).toStrictEqual([[2], [1]]);
      const second = await outbox.takeBatch(EPOCH, first.lastSequence ?? 0, 1);
      expect([names(second.coins), names(second.dropped)]).toStrictEqual([[3], []]);
      const third = await outbox.takeBatch(EPOCH, second.lastSequence ?? 0, 1);
      expect([names(third.coins), names(third.dropped), third.lastSequence]).toStrictEqual([[], [4], null]);
    }));

  it('passes over coins for which there is no room, and does not record them as sent', () =>
    withStorage(async ({ storage: { outbox } }) => {
      await outbox.add([mintedCoin(1), mintedCoin(2), mintedCoin(3, 'BRONZE'), mintedCoin(4), mintedCoin(5, 'BRONZE')]);
      const batch = await outbox.takeBatch(EPOCH, 0, 10, { GOLD: 1, BRONZE: 0 });
      expect([names(batch.coins), names(batch.held)]).toStrictEqual([[1], [2, 3, 4, 5]]);
      const later = await outbox.takeBatch(OTHER_EPOCH, 0, 10);
      expect([names(later.coins), names(later.dropped)]).toStrictEqual([[2, 3, 4, 5], [1]]);
    }));

  it('has one coin of a category whose first one was sent before, if the room is not known', () =>
    withStorage(async ({ storage: { outbox } }) => {
      await outbox.add([mintedCoin(1), mintedCoin(2), mintedCoin(3, 'BRONZE'), mintedCoin(4)]);
      await outbox.takeBatch(EPOCH, 0, 2);
      await outbox.add([mintedCoin(5, 'BRONZE')]);
      const batch = await outbox.takeBatch(EPOCH, 0, 10, {});
      expect([names(batch.coins), names(batch.held)]).toStrictEqual([
        [1, 3, 5],
        [2, 4],
      ]);
    }));

  it('examines at most 1000 coins, however many wait', () =>
    withStorage(async ({ storage: { outbox } }) => {
      await outbox.add(Array.from({ length: 1203 }, (_, n) => mintedCoin(n, 'BRONZE')));
      await outbox.add([mintedCoin(5000)]);
      const first = await outbox.takeBatch(EPOCH, 0, 100, { BRONZE: 0 });
      expect([first.coins.length, first.held.length]).toStrictEqual([0, 1000]);
      const second = await outbox.takeBatch(EPOCH, first.lastSequence ?? 0, 100, { BRONZE: 0 });
      expect([names(second.coins), second.held.length, second.lastSequence]).toStrictEqual([[5000], 203, null]);
    }));
});
