import { createPublicKey, randomUUID, sign } from 'node:crypto';
import { exportPublicKey, generateKeyPair, importPrivateKey, importPublicKey, specOf } from '../algorithms';
import { mintCoin, publicHalfOf } from '../coin-minting';
import { coinName, createIdentity, publicIdentityOf, verifyCoin } from '../coin-signature';
import { adviseTier } from '../context-manager';
import { HardwareKey } from '../hardware-key';
import { TIERS } from '../tiers';

const hardwareKey = new HardwareKey();
const bob = { userId: randomUUID(), identity: createIdentity(), hardwareKey };
const bobsIdentity = publicIdentityOf(bob);

function flip(bytes: Uint8Array, index = 0): Buffer {
  const changed = Buffer.from(bytes);
  changed[index] = (changed[index] ?? 0) ^ 1;
  return changed;
}

describe.each(TIERS)('a %s coin', (tier) => {
  const minted = mintCoin(tier, bob);
  const coin = publicHalfOf(minted);

  it('has exactly the sizes that coin.proto states', () => {
    expect(coin.publicKey.length).toBe(specOf(tier).publicKeySize);
    expect(coin.signature.length).toBe(specOf(tier).signatureSize);
    expect(minted.encryptionIv.length).toBe(12);
    expect(minted.authTag.length).toBe(16);
  });

  it('carries the bare key: the last bytes of its SubjectPublicKeyInfo', () => {
    const publicKey = importPublicKey(specOf(tier).publicKeyAlgorithm, coin.publicKey);
    const spki = publicKey.export({ type: 'spki', format: 'der' });
    expect(spki.subarray(-coin.publicKey.length).equals(coin.publicKey)).toBe(true);
    expect(createPublicKey({ key: spki, type: 'spki', format: 'der' }).equals(publicKey)).toBe(true);
  });

  it('is signed by its owner', () => {
    expect(verifyCoin(coin, bobsIdentity)).toBe(true);
  });

  it('is refused when anything that the signature covers was changed', () => {
    const other = publicHalfOf(mintCoin(tier, bob));
    expect(verifyCoin({ ...coin, publicKey: flip(coin.publicKey) }, bobsIdentity)).toBe(false);
    expect(verifyCoin({ ...coin, signature: flip(coin.signature) }, bobsIdentity)).toBe(false);
    expect(verifyCoin({ ...coin, keyId: other.keyId }, bobsIdentity)).toBe(false);
    expect(verifyCoin({ ...coin, publicKey: other.publicKey }, bobsIdentity)).toBe(false);
    const expiresAt = new Date(coin.expiresAt.getTime() + 1);
    expect(verifyCoin({ ...coin, expiresAt }, bobsIdentity)).toBe(false);
    expect(verifyCoin(coin, { ...bobsIdentity, userId: randomUUID() })).toBe(false);
  });

  it('is refused when another identity signed it', () => {
    const forged = publicHalfOf(mintCoin(tier, { ...bob, identity: createIdentity() }));
    expect(verifyCoin(forged, bobsIdentity)).toBe(false);
  });

  it('is refused when its key or signature is cut off', () => {
    expect(verifyCoin({ ...coin, publicKey: coin.publicKey.subarray(1) }, bobsIdentity)).toBe(false);
    expect(verifyCoin({ ...coin, signature: coin.signature.subarray(1) }, bobsIdentity)).toBe(false);
  });

  it('keeps its private half secret without the hardware key', () => {
    const name = coinName(coin.keyId, tier);
    expect(importPrivateKey(hardwareKey.open(minted, name)).type).toBe('private');
    expect(() => new HardwareKey().open(minted, name)).toThrow();
  });

  it('does not open a private half that was moved to the name of another coin', () => {
    const other = publicHalfOf(mintCoin(tier, bob));
    expect(() => hardwareKey.open(minted, coinName(other.keyId, tier))).toThrow();
  });
});

it('refuses a signature that the owner made over the bare key, for another purpose', () => {
  const coin = publicHalfOf(mintCoin('SILVER', bob));
  const signature = sign(null, coin.publicKey, bob.identity.Ed25519.privateKey);
  expect(verifyCoin({ ...coin, signature }, bobsIdentity)).toBe(false);
});

it('refuses a SILVER coin that claims another category', () => {
  const coin = publicHalfOf(mintCoin('SILVER', bob));
  expect(verifyCoin({ ...coin, coinCategory: 'GOLD' }, bobsIdentity)).toBe(false);
  expect(verifyCoin({ ...coin, coinCategory: 'BRONZE' }, bobsIdentity)).toBe(false);
});

it('exports keys of the sizes of FIPS 203 table 3, FIPS 204 table 2 and RFC 7748', () => {
  const size = (algorithm: Parameters<typeof generateKeyPair>[0]) =>
    exportPublicKey(generateKeyPair(algorithm).publicKey).length;
  expect(size('ML-KEM-768')).toBe(1184);
  expect(size('ML-DSA-44')).toBe(1312);
  expect(size('X25519')).toBe(32);
  expect(size('Ed25519')).toBe(32);
});

it('refuses an ML-KEM key whose coefficients exceed the modulus (FIPS 203 section 7.2)', () => {
  expect(() => importPublicKey('ML-KEM-768', Buffer.alloc(1184, 0xff))).toThrow();
});

it('recommends the tier that link and battery allow', () => {
  expect(adviseTier({ link: 'Wi-Fi', battery: 1 }).coinCategory).toBe('GOLD');
  expect(adviseTier({ link: 'cellular', battery: 1 }).coinCategory).toBe('SILVER');
  expect(adviseTier({ link: 'cellular', battery: 0.1 }).coinCategory).toBe('BRONZE');
  expect(adviseTier({ link: 'Wi-Fi', battery: 0.1 }).coinCategory).toBe('BRONZE');
});
