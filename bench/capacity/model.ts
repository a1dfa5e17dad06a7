/** Assumptions about user behaviour and hardware. They are stated, not measured. */
export interface Assumptions {
  /** Coins that an average user has in stock. */
  readonly stock: number;
  /** Shares of GOLD, SILVER, BRONZE among coins, in percent. */
  readonly mix: readonly [number, number, number];
  /** Coins of an average user that are fetched per day. */
  readonly fetches: number;
  /** The ratio of the busiest second to the average one. */
  readonly peak: number;
  /** Coins per UploadCoins call. */
  readonly uploadBatch: number;
  /** The maximum utilization of a core at the peak, from 0 to 1. */
  readonly busy: number;
  /** The capacity of one PostgreSQL server: bytes of tables, and cores. */
  readonly shardBytes: number;
  readonly shardCores: number;
  /** Commits that share one WAL sync at the peak. */
  readonly commitsPerSync: number;
  /**
   * The maximum number of pages that one fetch, or one upload, is the first to change since a checkpoint. Each is
   * logged and written in full.
   */
  readonly pagesPerFetch: number;
  readonly pagesPerUpload: number;
  /** Pages that a fetch reads from disk if nothing that it needs is cached. */
  readonly readsPerFetch: number;
}

/** Measured costs, in bytes and in microseconds of processor time. */
export interface Costs {
  /** Bytes on disk of a coin in stock, with indexes, by category. */
  readonly coinBytes: readonly [number, number, number];
  /** Bytes on disk of a spent and hard-deleted id. */
  readonly spentBytes: number;
  /** Bytes on disk of the record of a fetch. */
  readonly recordBytes: number;
  /**
   * Bytes of WAL, without full pages: of a single-coin fetch with its hard delete, and of an uploaded coin by category.
   */
  readonly fetchWal: number;
  readonly uploadWal: readonly [number, number, number];
  readonly fetchCpu: { readonly service: number; readonly postgres: number };
  /** Processor time of an unbatched fetch, which is what a distributed database gets. */
  readonly singleFetchCpu: { readonly service: number; readonly postgres: number };
  /** Processor time of an uploaded coin. */
  readonly uploadCpu: { readonly service: number; readonly postgres: number };
  /** Bytes on the wire of a coin with its share of the call, by category. */
  readonly wireBytes: readonly [number, number, number];
}

export interface Capacity {
  readonly users: number;
  readonly stockBytes: number;
  readonly spentBytes: number;
  readonly bytes: number;
  readonly fetchesPerSecond: number;
  readonly peakFetchesPerSecond: number;
  readonly peakUploadedPerSecond: number;
  readonly walPerDay: number;
  /** The upper bound: with full pages. */
  readonly maxWalPerDay: number;
  readonly serviceCores: number;
  readonly postgresCores: number;
  readonly shards: number;
  /** The upper bound of disk operations of all shards at the peak: WAL syncs, pages written, pages read. */
  readonly peakIops: number;
  readonly peakBitsPerSecond: number;
}

const DAY_S = 86_400;
const PAGE = 8192;
/** Coin lifetime, delivery window, and the last part of the lifetime in which nothing is handed out; in days. */
const [LIFETIME, DELIVERY, MARGIN] = [23, 7, 1];

/** Returns how many days a coin stays in stock: until it is fetched, or until it is no longer handed out. */
export function daysInStock({ stock, fetches }: Assumptions): number {
  return Math.min(LIFETIME - MARGIN, fetches > 0 ? stock / fetches : Number.POSITIVE_INFINITY);
}

/** Returns how many more days its id is remembered: until no vault can hold its private half. */
export function daysSpent(assumptions: Assumptions): number {
  return LIFETIME + DELIVERY - daysInStock(assumptions);
}

/** Estimates the resources that `users` users need. */
export function capacityOf(users: number, a: Assumptions, c: Costs): Capacity {
  const mixed = (of: readonly [number, number, number]) =>
    (of[0] * a.mix[0] + of[1] * a.mix[1] + of[2] * a.mix[2]) / (a.mix[0] + a.mix[1] + a.mix[2]);
  const [fetchesPerDay, uploadedPerDay] = [users * a.fetches, (users * a.stock) / daysInStock(a)];
  const stockBytes = users * a.stock * mixed(c.coinBytes);
  // A coin that was fetched keeps its key bytes and its record for the fetch grace, an hour.
  const inGrace = (fetchesPerDay / 24) * (mixed(c.coinBytes) + c.recordBytes);
  const spentBytes = fetchesPerDay * daysSpent(a) * c.spentBytes + inGrace;
  const bytes = stockBytes + spentBytes;
  const perSecond = (perDay: number) => perDay / DAY_S;
  const peakFetchesPerSecond = perSecond(fetchesPerDay) * a.peak;
  const peakUploadedPerSecond = perSecond(uploadedPerDay) * a.peak;
  const walPerDay = fetchesPerDay * c.fetchWal + uploadedPerDay * mixed(c.uploadWal);
  const pagesPerDay = fetchesPerDay * a.pagesPerFetch + (uploadedPerDay / a.uploadBatch) * a.pagesPerUpload;
  const cores = (fetchUs: number, uploadUs: number) =>
    (peakFetchesPerSecond * fetchUs + peakUploadedPerSecond * uploadUs) / 1e6 / a.busy;
  const shardsFor = (cpu: Costs['fetchCpu']) =>
    Math.max(1, Math.ceil(bytes / a.shardBytes), Math.ceil(cores(cpu.postgres, c.uploadCpu.postgres) / a.shardCores));
  const one = shardsFor(c.fetchCpu);
  const cpu = one === 1 ? c.fetchCpu : c.singleFetchCpu;
  const peakCommits = peakFetchesPerSecond + peakUploadedPerSecond / a.uploadBatch;
  return {
    users,
    stockBytes,
    spentBytes,
    bytes,
    fetchesPerSecond: perSecond(fetchesPerDay),
    peakFetchesPerSecond,
    peakUploadedPerSecond,
    walPerDay,
    maxWalPerDay: walPerDay + pagesPerDay * PAGE,
    serviceCores: cores(cpu.service, c.uploadCpu.service),
    postgresCores: cores(cpu.postgres, c.uploadCpu.postgres),
    shards: one === 1 ? 1 : shardsFor(cpu),
    peakIops: peakCommits / a.commitsPerSync + perSecond(pagesPerDay) * a.peak + peakFetchesPerSecond * a.readsPerFetch,
    peakBitsPerSecond: (peakFetchesPerSecond + peakUploadedPerSecond) * mixed(c.wireBytes) * 8,
  };
}
