import { type Harness, keyId, withFixture } from './harness';

const BOB = { userId: keyId(0xb0b) };
const EVE = { userId: keyId(0xe0e) };
const PHONE = { ...BOB, deviceId: keyId(1) };
const LAPTOP = { ...BOB, deviceId: keyId(2) };

/** Tests on any backend that a storage belongs to one user and device (promise 9). */
export function ownerSuite(name: string, harness: Harness): void {
  describe(`the owner of ${name}`, () => {
    it('is bound once, and another one is refused by every handle, also after reopening', () =>
      withFixture(harness, async ({ storage, open }) => {
        expect(await storage.owner.read()).toBeNull();
        await storage.owner.check(EVE);
        await storage.owner.bind({ userId: BOB.userId.toUpperCase() });
        for (const handle of [storage, await open()]) {
          expect(await handle.owner.read()).toStrictEqual(BOB);
          await handle.owner.bind(BOB);
          const wrong = { name: 'WrongOwnerError', owner: BOB, given: EVE };
          await expect(handle.owner.bind(EVE)).rejects.toMatchObject(wrong);
          await expect(handle.owner.check(EVE)).rejects.toMatchObject(wrong);
        }
        await storage.close();
        expect(await (await open()).owner.read()).toStrictEqual(BOB);
      }));

    it('may be a device of a user, which is named later than the user', () =>
      withFixture(harness, async ({ storage }) => {
        await storage.owner.bind(BOB);
        await storage.owner.bind(PHONE);
        expect(await storage.owner.read()).toStrictEqual(PHONE);
        await storage.owner.check(BOB);
        await expect(storage.owner.bind(LAPTOP)).rejects.toMatchObject({ name: 'WrongOwnerError', owner: PHONE });
        await expect(storage.owner.bind({ ...PHONE, ...EVE })).rejects.toMatchObject({ name: 'WrongOwnerError' });
        expect(await storage.owner.read()).toStrictEqual(PHONE);
      }));

    it('is remembered as removed, by every handle and after reopening, once it has an owner', () =>
      withFixture(harness, async ({ storage, open }) => {
        await storage.owner.recordRemoval();
        await storage.owner.bind(PHONE);
        expect(await storage.owner.read()).toStrictEqual(PHONE);
        await storage.owner.recordRemoval();
        await storage.owner.recordRemoval();
        const removed = { ...PHONE, isRemoved: true };
        for (const handle of [storage, await open()]) expect(await handle.owner.read()).toStrictEqual(removed);
        await storage.owner.check(PHONE);
        await storage.owner.bind(PHONE);
        await storage.close();
        expect(await (await open()).owner.read()).toStrictEqual(removed);
      }));

    it('is one of several that bind it at the same time', () =>
      withFixture(harness, async ({ storage, open }) => {
        const handles = [storage, await open(), await open()];
        const owners = [BOB, EVE, { userId: keyId(7) }];
        const bound = await Promise.allSettled(handles.map((handle, n) => handle.owner.bind(owners[n] ?? BOB)));
        expect(bound.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      }));

    it('must be named by UUIDs', () =>
      withFixture(harness, async ({ storage }) => {
        const bad = { name: 'InvalidArgumentError', field: 'owner.userId' };
        await expect(storage.owner.bind({ userId: 'bob' })).rejects.toMatchObject(bad);
        expect(await storage.owner.read()).toBeNull();
      }));
  });
}
