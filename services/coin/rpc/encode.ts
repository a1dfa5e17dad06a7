import type { ServiceDefinition } from '@grpc/grpc-js';
import { type Coin, ItemError } from '../../../gen/aqm/coin/v1/coin';
import type {
  BatchFetchCoinsResponse,
  DeviceCoins,
  FetchCoinsResponse,
  FetchCoinsResult,
  FetchDeviceCoinsResponse,
} from '../../../gen/aqm/coin/v1/coin_service';
import { toDeviceText } from '../coin';

/**
 * Encodes the response of FetchCoins to the same bytes as the generated code, except that the nil
 * UUID of the unnamed device becomes an empty device_id. It first computes the size, then writes every
 * byte once, at its final position. The generated code grows its buffer, and moves nested messages
 * once it knows their lengths (docs/adr/0018-encoder.md).
 */
export function encodeFetchCoinsResponse({ coins }: FetchCoinsResponse): Buffer {
  const bytes = Buffer.allocUnsafe(sizeOfCoins(coins));
  writeCoins(bytes, 0, coins);
  return bytes;
}

/** Encodes the response of BatchFetchCoins in the same way. */
export function encodeBatchFetchCoinsResponse({ results }: BatchFetchCoinsResponse): Buffer {
  const errors = results.map(({ error }) => (error ? ItemError.encode(error).finish() : undefined));
  const sizes = results.map(({ coins }, index) => sizeOfCoins(coins) + sizeOfField(errors[index]?.length));
  const bytes = Buffer.allocUnsafe(sizes.reduce((sum, size) => sum + sizeOfField(size), 0));
  let offset = 0;
  results.forEach(({ coins }: FetchCoinsResult, index) => {
    offset = writeHeader(bytes, offset, TAG.results, sizes[index] ?? 0);
    offset = writeCoins(bytes, offset, coins);
    const error = errors[index];
    if (error) offset = writeBytes(bytes, offset, TAG.error, error);
  });
  return bytes;
}

/** Encodes the response of FetchDeviceCoins in the same way. */
export function encodeFetchDeviceCoinsResponse({ results }: FetchDeviceCoinsResponse): Buffer {
  const errors = results.map(({ error }) => (error ? ItemError.encode(error).finish() : undefined));
  const deviceSizes = results.map(({ devices }) => devices.map(sizeOfDevice));
  const sizes = deviceSizes.map(
    (ofResult, index) => sum(ofResult.map(sizeOfField)) + sizeOfField(errors[index]?.length),
  );
  const bytes = Buffer.allocUnsafe(sum(sizes.map(sizeOfField)));
  let offset = 0;
  results.forEach(({ devices }, index) => {
    offset = writeHeader(bytes, offset, TAG.results, sizes[index] ?? 0);
    devices.forEach(({ deviceId, coins }, place) => {
      offset = writeHeader(bytes, offset, TAG.devices, deviceSizes[index]?.[place] ?? 0);
      offset = writeText(bytes, offset, TAG.deviceIdOfCoins, deviceId);
      for (const coin of coins) offset = writeCoin(bytes, offset, coin, TAG.coinsOfDevice);
    });
    const error = errors[index];
    if (error) offset = writeBytes(bytes, offset, TAG.error, error);
  });
  return bytes;
}

/** Returns the service with these encoders for the responses that contain coins. */
export function withLeanEncoding<Definition extends ServiceDefinition>(service: Definition): Definition {
  const encoders: Readonly<Record<string, (value: never) => Buffer>> = {
    fetchCoins: encodeFetchCoinsResponse,
    batchFetchCoins: encodeBatchFetchCoinsResponse,
    fetchDeviceCoins: encodeFetchDeviceCoinsResponse,
  };
  const methods = Object.entries(service).map(([name, method]) => [
    name,
    { ...method, responseSerialize: encoders[name] ?? method.responseSerialize },
  ]);
  return Object.fromEntries(methods);
}

/** Protobuf tags: the field number times 8, plus the wire type (2: length-delimited, 0: varint). */
const TAG = {
  results: 0x0a,
  coins: 0x0a,
  error: 0x12,
  devices: 0x0a,
  deviceIdOfCoins: 0x0a,
  coinsOfDevice: 0x12,
  keyId: 0x0a,
  coinCategory: 0x10,
  publicKey: 0x1a,
  signature: 0x22,
  expireTime: 0x2a,
  deviceId: 0x32,
  seconds: 0x08,
  nanos: 0x10,
};

function sizeOfDevice({ deviceId, coins }: DeviceCoins): number {
  return sizeOfText(deviceId) + sizeOfCoins(coins);
}

function sizeOfCoins(coins: readonly Coin[]): number {
  let size = 0;
  for (const coin of coins) size += sizeOfField(sizeOfCoin(coin));
  return size;
}

function writeCoins(bytes: Buffer, start: number, coins: readonly Coin[]): number {
  let offset = start;
  for (const coin of coins) offset = writeCoin(bytes, offset, coin);
  return offset;
}

function sizeOfCoin({ keyId, coinCategory, publicKey, signature, expireTime, deviceId }: Coin): number {
  return (
    sizeOfText(keyId) +
    sizeOfNumber(coinCategory) +
    sizeOfField(publicKey.length || undefined) +
    sizeOfField(signature.length || undefined) +
    (expireTime ? sizeOfField(sizeOfTime(expireTime)) : 0) +
    sizeOfText(toDeviceText(deviceId))
  );
}

function writeCoin(bytes: Buffer, start: number, coin: Coin, tag = TAG.coins): number {
  let offset = writeHeader(bytes, start, tag, sizeOfCoin(coin));
  offset = writeText(bytes, offset, TAG.keyId, coin.keyId);
  offset = writeNumber(bytes, offset, TAG.coinCategory, coin.coinCategory);
  if (coin.publicKey.length > 0) offset = writeBytes(bytes, offset, TAG.publicKey, coin.publicKey);
  if (coin.signature.length > 0) offset = writeBytes(bytes, offset, TAG.signature, coin.signature);
  if (coin.expireTime) {
    offset = writeHeader(bytes, offset, TAG.expireTime, sizeOfTime(coin.expireTime));
    offset = writeNumber(bytes, offset, TAG.seconds, secondsOf(coin.expireTime));
    offset = writeNumber(bytes, offset, TAG.nanos, nanosOf(coin.expireTime));
  }
  return writeText(bytes, offset, TAG.deviceId, toDeviceText(coin.deviceId));
}

function sizeOfTime(time: Date): number {
  return sizeOfNumber(secondsOf(time)) + sizeOfNumber(nanosOf(time));
}

/**
 * Returns the seconds of a time after 1970. Every coin has such an expiry: uploads are validated.
 */
function secondsOf(time: Date): number {
  return Math.trunc(time.getTime() / 1000);
}

function nanosOf(time: Date): number {
  return (time.getTime() % 1000) * 1_000_000;
}

/** Returns the size of a varint field with its tag. A value of 0 is not encoded and has no size. */
function sizeOfNumber(value: number): number {
  return value === 0 ? 0 : 1 + sizeOfVarint(value);
}

function writeNumber(bytes: Buffer, offset: number, tag: number, value: number): number {
  return value === 0 ? offset : writeHeader(bytes, offset, tag, value);
}

/**
 * Returns the size of a length-delimited field with its tag and length. An undefined length means
 * an unset field.
 */
function sizeOfField(length: number | undefined): number {
  return length === undefined ? 0 : 1 + sizeOfVarint(length) + length;
}

function sizeOfText(text: string): number {
  return text === '' ? 0 : sizeOfField(Buffer.byteLength(text));
}

function writeText(bytes: Buffer, start: number, tag: number, text: string): number {
  if (text === '') return start;
  const offset = writeHeader(bytes, start, tag, Buffer.byteLength(text));
  return offset + bytes.write(text, offset);
}

function writeBytes(bytes: Buffer, start: number, tag: number, value: Uint8Array): number {
  const offset = writeHeader(bytes, start, tag, value.length);
  bytes.set(value, offset);
  return offset + value.length;
}

/** Writes a tag and a varint, which must not be negative. Returns the position after them. */
function writeHeader(bytes: Buffer, start: number, tag: number, value: number): number {
  bytes[start] = tag;
  let offset = start + 1;
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes[offset++] = (rest % 128) | 128;
  bytes[offset++] = rest;
  return offset;
}

function sizeOfVarint(value: number): number {
  let size = 1;
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) size += 1;
  return size;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
