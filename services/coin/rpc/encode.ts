import type { ServiceDefinition } from '@grpc/grpc-js';
import { type Coin, ItemError } from '../../../gen/aqm/coin/v1/coin';
import type {
  BatchFetchCoinsResponse,
  FetchCoinsResponse,
  FetchCoinsResult,
} from '../../../gen/aqm/coin/v1/coin_service';

/**
 * The answers of fetches as bytes, the same as the generated code makes: first how many there are, then each once at its
 * place. That code lets its buffer grow and moves what follows a length when it learns the length.
 */
export function encodeFetchCoinsResponse({ coins }: FetchCoinsResponse): Buffer {
  const bytes = Buffer.allocUnsafe(sizeOfCoins(coins));
  writeCoins(bytes, 0, coins);
  return bytes;
}

export function encodeBatchFetchCoinsResponse({ results }: BatchFetchCoinsResponse): Buffer {
  const errors = results.map(({ error }) => (error ? ItemError.encode(error).finish() : undefined));
  const sizes = results.map(({ coins }, index) => sizeOfCoins(coins) + sizeOfField(errors[index]?.length));
  const bytes = Buffer.allocUnsafe(sizes.reduce((sum, size) => sum + sizeOfField(size), 0));
  let at = 0;
  results.forEach(({ coins }: FetchCoinsResult, index) => {
    at = writeHeader(bytes, at, TAG.results, sizes[index] ?? 0);
    at = writeCoins(bytes, at, coins);
    const error = errors[index];
    if (error) at = writeBytes(bytes, at, TAG.error, error);
  });
  return bytes;
}

/** The same service with these encoders for the answers that hold coins. */
export function withLeanEncoding<Definition extends ServiceDefinition>(service: Definition): Definition {
  const encoders: Readonly<Record<string, (value: never) => Buffer>> = {
    fetchCoins: encodeFetchCoinsResponse,
    batchFetchCoins: encodeBatchFetchCoinsResponse,
  };
  const methods = Object.entries(service).map(([name, method]) => [
    name,
    { ...method, responseSerialize: encoders[name] ?? method.responseSerialize },
  ]);
  return Object.fromEntries(methods);
}

/** Number of the field * 8, plus 2 for what has a length, 0 for a number. */
const TAG = {
  results: 0x0a,
  coins: 0x0a,
  error: 0x12,
  keyId: 0x0a,
  coinCategory: 0x10,
  publicKey: 0x1a,
  signature: 0x22,
  expireTime: 0x2a,
  seconds: 0x08,
  nanos: 0x10,
};

function sizeOfCoins(coins: readonly Coin[]): number {
  let size = 0;
  for (const coin of coins) size += sizeOfField(sizeOfCoin(coin));
  return size;
}

function writeCoins(bytes: Buffer, from: number, coins: readonly Coin[]): number {
  let at = from;
  for (const coin of coins) at = writeCoin(bytes, at, coin);
  return at;
}

function sizeOfCoin({ keyId, coinCategory, publicKey, signature, expireTime }: Coin): number {
  return (
    sizeOfText(keyId) +
    sizeOfNumber(coinCategory) +
    sizeOfField(publicKey.length || undefined) +
    sizeOfField(signature.length || undefined) +
    (expireTime ? sizeOfField(sizeOfTime(expireTime)) : 0)
  );
}

function writeCoin(bytes: Buffer, from: number, coin: Coin): number {
  let at = writeHeader(bytes, from, TAG.coins, sizeOfCoin(coin));
  if (coin.keyId !== '') {
    at = writeHeader(bytes, at, TAG.keyId, Buffer.byteLength(coin.keyId));
    at += bytes.write(coin.keyId, at);
  }
  at = writeNumber(bytes, at, TAG.coinCategory, coin.coinCategory);
  if (coin.publicKey.length > 0) at = writeBytes(bytes, at, TAG.publicKey, coin.publicKey);
  if (coin.signature.length > 0) at = writeBytes(bytes, at, TAG.signature, coin.signature);
  if (!coin.expireTime) return at;
  at = writeHeader(bytes, at, TAG.expireTime, sizeOfTime(coin.expireTime));
  at = writeNumber(bytes, at, TAG.seconds, secondsOf(coin.expireTime));
  return writeNumber(bytes, at, TAG.nanos, nanosOf(coin.expireTime));
}

function sizeOfTime(time: Date): number {
  return sizeOfNumber(secondsOf(time)) + sizeOfNumber(nanosOf(time));
}

/** Of a time after 1970, as that of every coin is (uploadCoins). */
function secondsOf(time: Date): number {
  return Math.trunc(time.getTime() / 1000);
}

function nanosOf(time: Date): number {
  return (time.getTime() % 1000) * 1_000_000;
}

/** A tag and a number; nothing for 0, as for every value that is not set. */
function sizeOfNumber(value: number): number {
  return value === 0 ? 0 : 1 + sizeOfVarint(value);
}

function writeNumber(bytes: Buffer, at: number, tag: number, value: number): number {
  return value === 0 ? at : writeHeader(bytes, at, tag, value);
}

/** A tag, a length and so many bytes; nothing where there are none to write. */
function sizeOfField(length: number | undefined): number {
  return length === undefined ? 0 : 1 + sizeOfVarint(length) + length;
}

function sizeOfText(text: string): number {
  return sizeOfField(Buffer.byteLength(text) || undefined);
}

function writeBytes(bytes: Buffer, from: number, tag: number, value: Uint8Array): number {
  const at = writeHeader(bytes, from, tag, value.length);
  bytes.set(value, at);
  return at + value.length;
}

/** A tag, and a length or a number: not below zero, which has another form. */
function writeHeader(bytes: Buffer, from: number, tag: number, value: number): number {
  bytes[from] = tag;
  let at = from + 1;
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes[at++] = (rest % 128) | 128;
  bytes[at++] = rest;
  return at;
}

function sizeOfVarint(value: number): number {
  let size = 1;
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) size += 1;
  return size;
}
