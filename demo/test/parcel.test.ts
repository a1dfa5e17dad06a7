import { createDecipheriv, createHmac, diffieHellman, hkdfSync, randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DeviceStorage, openDeviceStorage } from '../../device';
import type { CoinCategoryName } from '../../gen/aqm/coin/v1/coin_categories';
import { encapsulationSize, exportPublicKey, importPrivateKey, importPublicKey } from '../algorithms';
import { mintCoin, publicHalfOf } from '../coin-minting';
import { coinName, createIdentity, publicIdentityOf, type SignedCoin } from '../coin-signature';
import { ForgedCoinError, type Opener, openParcel, sealMessage } from '../crypto-wrapper';
import { HardwareKey } from '../hardware-key';
import { decodeParcel, encodeParcel, PARCEL_OVERHEAD } from '../parcel';
import { TIERS } from '../tiers';

const TEXT = 'Grüße, 你好 👋';
const hardwareKey = new HardwareKey();
const bob = { userId: randomUUID(), identity: createIdentity(), hardwareKey };
const bobsIdentity = publicIdentityOf(bob);

let folder: string;
let storage: DeviceStorage;
let opener: Opener;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-parcel-test-'));
  storage = await openDeviceStorage({ backend: 'sqlite', path: join(folder, 'coins.db'), key: randomBytes(32) });
  opener = { vault: storage.vault, hardwareKey };
});

afterAll(async () => {
  await storage.close();
  rmSync(folder, { recursive: true });
});

async function mintAndKeep(tier: CoinCategoryName): Promise<SignedCoin> {
  const coin = mintCoin(tier, bob);
  const { keyId, coinCategory, encryptedBlob, encryptionIv, authTag } = coin;
  await storage.vault.storeKey({ keyId, coinCategory, encryptedBlob, encryptionIv, authTag });
  return publicHalfOf(coin);
}

/** Returns the parcel with one bit flipped, in the byte at an index on the wire. */
function damaged(bytes: Buffer, index: number) {
  const changed = Buffer.from(bytes);
  changed.writeUInt8(changed.readUInt8(index) ^ 1, index);
  return decodeParcel(changed);
}

describe.each(TIERS)('a message under a %s coin', (tier) => {
  const addedBytes = encapsulationSize(tier);

  it('is read as it was written, and its coin is burned', async () => {
    const coin = await mintAndKeep(tier);
    const bytes = encodeParcel(sealMessage(TEXT, coin, bobsIdentity));
    expect(bytes.length).toBe(PARCEL_OVERHEAD + addedBytes + Buffer.byteLength(TEXT));
    expect(bytes.includes('Grüße')).toBe(false);
    expect(await openParcel(decodeParcel(bytes), opener)).toEqual({ opened: true, text: TEXT, coinCategory: tier });
    expect(await storage.vault.fetchKey(coin.keyId)).toBeNull();
  });

  it('is refused when it arrives again', async () => {
    const parcel = sealMessage(TEXT, await mintAndKeep(tier), bobsIdentity);
    await openParcel(parcel, opener);
    expect(await openParcel(parcel, opener)).toEqual({ opened: false, reason: 'BURNED' });
  });

  it('is read once when two copies arrive at the same moment', async () => {
    const parcel = sealMessage(TEXT, await mintAndKeep(tier), bobsIdentity);
    const both = await Promise.all([openParcel(parcel, opener), openParcel(parcel, opener)]);
    expect(both.filter(({ opened }) => opened)).toHaveLength(1);
  });

  it('is refused with any part changed, and burns nothing then', async () => {
    const coin = await mintAndKeep(tier);
    const bytes = encodeParcel(sealMessage(TEXT, coin, bobsIdentity));
    const offsets = { iv: 16, tag: 28, encapsulation: PARCEL_OVERHEAD, ciphertext: bytes.length - 1 };
    for (const [part, index] of Object.entries(offsets)) {
      expect([part, await openParcel(damaged(bytes, index), opener)]).toEqual([
        part,
        { opened: false, reason: 'DAMAGED' },
      ]);
    }
    // The length of the encapsulation: one byte moves from it to the ciphertext, or back.
    expect(await openParcel(damaged(bytes, PARCEL_OVERHEAD - 1), opener)).toEqual({ opened: false, reason: 'DAMAGED' });
    expect(await openParcel(damaged(bytes, 0), opener)).toEqual({ opened: false, reason: 'ABSENT' });
    expect(await openParcel(decodeParcel(bytes), opener)).toMatchObject({ opened: true, text: TEXT });
  });

  it('is refused when it is renamed to another coin of the same tier', async () => {
    const [coin, other] = [await mintAndKeep(tier), await mintAndKeep(tier)];
    const parcel = { ...sealMessage(TEXT, coin, bobsIdentity), keyId: other.keyId };
    expect(await openParcel(parcel, opener)).toEqual({ opened: false, reason: 'DAMAGED' });
    expect(await storage.vault.getStatus(other.keyId)).toBe('ACTIVE');
  });

  it('is not written if the coin is forged', async () => {
    const forged = mintCoin(tier, { ...bob, identity: createIdentity() });
    expect(() => sealMessage(TEXT, publicHalfOf(forged), bobsIdentity)).toThrow(ForgedCoinError);
  });
});

it('may be empty', async () => {
  const parcel = sealMessage('', await mintAndKeep('BRONZE'), bobsIdentity);
  expect(await openParcel(parcel, opener)).toMatchObject({ opened: true, text: '' });
});

it('refuses a parcel that is cut off', async () => {
  const bytes = encodeParcel(sealMessage(TEXT, await mintAndKeep('BRONZE'), bobsIdentity));
  expect(() => decodeParcel(bytes.subarray(0, PARCEL_OVERHEAD - 1))).toThrow(RangeError);
  expect(() => decodeParcel(bytes.subarray(0, PARCEL_OVERHEAD + 31))).toThrow(RangeError);
});

it('can be opened under BRONZE by any implementation of RFC 7748, RFC 9180 section 4.1 and RFC 5869', () => {
  const coin = mintCoin('BRONZE', bob);
  const { keyId, encapsulation, iv, ciphertext, tag } = sealMessage(TEXT, publicHalfOf(coin), bobsIdentity);
  const privateKey = importPrivateKey(hardwareKey.open(coin, coinName(keyId, 'BRONZE')));

  const dh = diffieHellman({ privateKey, publicKey: importPublicKey('X25519', encapsulation) });
  const hmac = (key: Uint8Array, ...parts: readonly (string | Uint8Array)[]) =>
    parts.reduce((mac, part) => mac.update(part), createHmac('sha256', key)).digest();
  const suite = ['HPKE-v1', 'KEM', Buffer.of(0, 0x20)];
  const extracted = hmac(Buffer.alloc(32), ...suite, 'eae_prk', dh);
  const sharedKey = hmac(
    extracted,
    ...[Buffer.of(0, 32), ...suite, 'shared_secret', encapsulation, coin.publicKey, Buffer.of(1)],
  );

  const context = Buffer.concat([Buffer.from('aqm.coin.v1 parcel\0'), coinName(keyId, 'BRONZE')]);
  const key = Buffer.from(hkdfSync('sha256', sharedKey, Buffer.alloc(0), context, 32));
  const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: 16 });
  decipher.setAAD(Buffer.concat([context, encapsulation])).setAuthTag(tag);
  expect(Buffer.concat([decipher.update(ciphertext), decipher.final()]).toString()).toBe(TEXT);
  expect(exportPublicKey(importPublicKey('X25519', coin.publicKey)).equals(coin.publicKey)).toBe(true);
});
