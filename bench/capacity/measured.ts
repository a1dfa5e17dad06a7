import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import type { Costs } from './model';

type Three = readonly [number, number, number];
type Cpu = { readonly service: number; readonly postgres: number };

/** Bytes of headers, token and framing per call in both directions, on a connection with many calls. */
const CALL_BYTES = 300;

interface Files {
  readonly costs?: Pick<Costs, 'coinBytes' | 'recordBytes' | 'fetchWal' | 'uploadWal'>;
  readonly spent?: { readonly bytesPerMillion: { readonly all: number } };
  readonly fetch?: { readonly summary: readonly { readonly variant: string; readonly cpuUs: Cpu }[] };
  readonly upload?: { readonly rounds: readonly { readonly cpuUs: Cpu }[] };
}

/** The source of a figure. */
export interface Source {
  readonly figure: string;
  readonly value: string;
  readonly from: string;
}

/** The values that are used if a bench has not written its file. */
const ASSUMED = {
  coinBytes: [4400, 1600, 350] as Three,
  spentBytes: 185,
  recordBytes: 220,
  fetchWal: 800,
  uploadWal: [4500, 1800, 500] as Three,
  fetchCpu: { service: 80, postgres: 50 },
  singleFetchCpu: { service: 325, postgres: 150 },
  uploadCpu: { service: 40, postgres: 40 },
};

/** Reads the costs from the files in `folder`. @returns the costs, and the source of each figure in words */
export function readCosts(folder: string): { readonly costs: Costs; readonly sources: readonly Source[] } {
  const files = Object.fromEntries(
    ['costs', 'spent', 'fetch', 'upload'].map((name) => [name, read(join(folder, `${name}.json`))]),
  ) as Files;
  const sources: Source[] = [];
  function take<T extends number | Three | Cpu>(figure: string, file: string, found: T | undefined, assumed: T): T {
    const value = found ?? assumed;
    const text =
      typeof value === 'number'
        ? value.toFixed(0)
        : Object.values(value)
            .map((part: number) => part.toFixed(0))
            .join(' / ');
    sources.push({ figure, value: text, from: found === undefined ? 'ASSUMED, not measured' : file });
    return value;
  }
  const variant = (name: string) => files.fetch?.summary.find((one) => one.variant === name)?.cpuUs;
  const rounds = files.upload?.rounds.map(({ cpuUs }) => cpuUs);
  const middle = (of: keyof Cpu) => rounds?.map((cpu) => cpu[of]).sort((a, b) => a - b)[rounds.length >> 1] ?? 0;
  const { costs, spent } = files;
  return {
    costs: {
      coinBytes: take(
        'bytes on disk of a coin in stock, GOLD / SILVER / BRONZE',
        'costs.json',
        costs?.coinBytes,
        ASSUMED.coinBytes,
      ),
      spentBytes: take(
        'bytes on disk of a spent id',
        'spent.json',
        spent && spent.bytesPerMillion.all / 1e6,
        ASSUMED.spentBytes,
      ),
      recordBytes: take(
        'bytes on disk of the record of a fetch',
        'costs.json',
        costs?.recordBytes,
        ASSUMED.recordBytes,
      ),
      fetchWal: take(
        'bytes of WAL of a fetch of one coin and its hard delete',
        'costs.json',
        costs?.fetchWal,
        ASSUMED.fetchWal,
      ),
      uploadWal: take(
        'bytes of WAL of an uploaded coin, GOLD / SILVER / BRONZE',
        'costs.json',
        costs?.uploadWal,
        ASSUMED.uploadWal,
      ),
      fetchCpu: take(
        'CPU µs of a batched fetch, service / PostgreSQL',
        'fetch.json',
        pick(variant('batched')),
        ASSUMED.fetchCpu,
      ),
      singleFetchCpu: take(
        'CPU µs of an unbatched fetch, service / PostgreSQL',
        'fetch.json',
        pick(variant('unbatched')),
        ASSUMED.singleFetchCpu,
      ),
      uploadCpu: take(
        'CPU µs of an uploaded coin, service / PostgreSQL',
        'upload.json',
        rounds?.length ? { service: middle('service'), postgres: middle('postgres') } : undefined,
        ASSUMED.uploadCpu,
      ),
      wireBytes: COIN_CATEGORIES.map(
        ({ publicKeySize, signatureSize }) => publicKeySize + signatureSize + CALL_BYTES,
      ) as unknown as Three,
    },
    sources,
  };
}

function pick(cpu: Cpu | undefined): Cpu | undefined {
  return cpu && { service: cpu.service, postgres: cpu.postgres };
}

function read(file: string): unknown {
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined;
}
