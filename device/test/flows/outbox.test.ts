import { DAY, type Fixture, keyId, mintedCoin, passTime, withFixture } from '../../conformance/harness';
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
      await outbox.remove([keyId(1)]);
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
      expect(await fixture.storage.outbox.add([mintedCoin(1)])).toMatchObject([{ reason: 'SAME_KEY_HELD' }]);
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
