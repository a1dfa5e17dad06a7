import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import { bytes } from '../conformance/harness';
import { COIN_CATEGORY_NAMES, specOf } from '../contract/coin-category';
import { type CoinToSign, coinBytesToSign } from '../index';

/** The test vector of docs/contracts.md. */
const coin: CoinToSign = {
  userId: '0d2b9a4e-5c1f-4e7a-9b3d-6f8e2a1c4d5b',
  keyId: '6f1c3b7e-9a40-4d52-8e11-b0c9d8e7f6a5',
  coinCategory: 'BRONZE',
  expireTime: new Date('2026-02-01T12:34:56.789Z'),
  publicKey: Uint8Array.from({ length: 32 }, (_, n) => n),
};
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex');

test('the signed bytes are label, user id, key id, category, expiry in milliseconds, and public key', () => {
  const parts = [
    hex(Buffer.from('aqm.coin.v1 coin signature\0')),
    '0d2b9a4e5c1f4e7a9b3d6f8e2a1c4d5b',
    '6f1c3b7e9a404d528e11b0c9d8e7f6a5',
    '03',
    '0000019c1932f895',
    '000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f',
  ];
  const signed = coinBytesToSign(coin);
  expect(hex(signed)).toBe(parts.join(''));
  expect(hex(coinBytesToSign({ ...coin, userId: coin.userId.toUpperCase(), keyId: coin.keyId.toUpperCase() }))).toBe(
    hex(signed),
  );
  const seed = Buffer.from(Uint8Array.from({ length: 32 }, (_, n) => 0x80 + n));
  const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  const signature = sign(null, signed, key);
  expect(hex(signature)).toBe(
    '63b534fba67a5d398e39d77aeae06b50fd074b880164183af011fd8ad1c9ded0610c1333a3e4e9fb8282157d2b585a3cc91b354448655b44970b14b956a5d408',
  );
  expect(verify(null, signed, createPublicKey(key), signature)).toBe(true);
});

test('every category has its own number, and 68 bytes before its public key', () => {
  for (const coinCategory of COIN_CATEGORY_NAMES) {
    const { category, publicKeySize } = specOf(coinCategory);
    const publicKey = bytes(publicKeySize, category);
    const signed = coinBytesToSign({ ...coin, coinCategory, publicKey });
    expect(signed[59]).toBe(category);
    expect(signed.subarray(68)).toStrictEqual(publicKey);
  }
});

test('a change of any signed fact changes the bytes', () => {
  const changes: Partial<CoinToSign>[] = [
    { userId: coin.keyId },
    { keyId: coin.userId },
    { expireTime: new Date(coin.expireTime.getTime() + 1) },
    { publicKey: bytes(32, 1) },
  ];
  for (const change of changes)
    expect(hex(coinBytesToSign({ ...coin, ...change }))).not.toBe(hex(coinBytesToSign(coin)));
  const sizes = { coinCategory: 'GOLD', publicKey: bytes(1184, 1) } as const;
  const silver = { ...coin, ...sizes, coinCategory: 'SILVER' } as const;
  expect(hex(coinBytesToSign({ ...coin, ...sizes }))).not.toBe(hex(coinBytesToSign(silver)));
});

test.each([
  ['coin', undefined],
  ['userId', { ...coin, userId: 'bob' }],
  ['keyId', { ...coin, keyId: '' }],
  ['coinCategory', { ...coin, coinCategory: 'TIN' }],
  ['expireTime', { ...coin, expireTime: new Date(Number.NaN) }],
  ['expireTime', { ...coin, expireTime: 1769949296789 }],
  ['publicKey', { ...coin, publicKey: bytes(31, 1) }],
])('names the bad field %s', (field, bad) => {
  expect(() => coinBytesToSign(bad as never)).toThrow(
    expect.objectContaining({ name: 'InvalidArgumentError', field }) as never,
  );
});
