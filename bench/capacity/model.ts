/** What people do and how machines are chosen: stated, not measured. */
export interface Assumptions {
  /** Coins that an average user has in stock. */
  readonly stock: number;
  /** Shares of GOLD, SILVER, BRONZE among coins, in percent. */
  readonly mix: readonly [number, number, number];
  /** Coins of an average user that are fetched in a day. */
  readonly fetches: number;
  /** The busiest second against the average one. */
  readonly peak: number;
  /** Coins of one UploadCoins. */
  readonly uploadBatch: number;
  /** Share of a core that may be busy at the peak. */
  readonly busy: number;
  /** Of one PostgreSQL server: bytes of tables, and cores. */
  readonly shardBytes: number;
  readonly shardCores: number;
  /** Commits that share one sync of the log at the peak. */
  readonly commitsPerSync: number;
  /** Pages that a fetch, or an upload, is the first to change since a checkpoint, at most: each is logged and written whole. */
  readonly pagesPerFetch: number;
  readonly pagesPerUpload: number;
  /** Pages that a fetch reads from disk where memory holds none of what it needs. */
  readonly readsPerFetch: number;
}

/** What the benches measured; bytes, and microseconds of processor time. */
export interface Costs {
  /** On disk, indexes included, of a coin in stock, by category. */
  readonly coinBytes: readonly [number, number, number];
  /** Of an id that is spent and hard-deleted. */
  readonly spentBytes: number;
  /** Of the record of a fetch. */
  readonly recordBytes: number;
  /** Log without whole pages, of a fetch of one coin with its hard delete, and of an uploaded coin by category. */
  readonly fetchWal: number;
  readonly uploadWal: readonly [number, number, number];
  readonly fetchCpu: { readonly service: number; readonly postgres: number };
  /** Of a fetch with a statement of its own: what a distributed database gets. */
  readonly singleFetchCpu: { readonly service: number; readonly postgres: number };
  /** Of an uploaded coin. */
  readonly uploadCpu: { readonly service: number; readonly postgres: number };
  /** On the wire, of a coin by category, with its share of the call. */
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
  /** The same where every page is logged whole. */
  readonly maxWalPerDay: number;
  readonly serviceCores: number;
  readonly postgresCores: number;
  readonly shards: number;
  /** Of all shards at the peak: syncs of the log, pages written, pages read, each at most. */
  readonly peakIops: number;
  readonly peakBitsPerSecond: number;
}

const DAY_S = 86_400;
const PAGE = 8192;
/** Coin lifetime, delivery window, and the last day of the first, on which nothing is handed out; in days. */
const [LIFETIME, DELIVERY, MARGIN] = [23, 7, 1];

/** How long a coin is in stock, in days: until it is fetched, or no longer handed out. */
export function daysInStock({ stock, fetches }: Assumptions): number {
  return Math.min(LIFETIME - MARGIN, fetches > 0 ? stock / fetches : Number.POSITIVE_INFINITY);
}

/** How long its id is remembered after that, in days: until no vault can hold its private half. */
export function daysSpent(assumptions: Assumptions): number {
  return LIFETIME + DELIVERY - daysInStock(assumptions);
}

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
