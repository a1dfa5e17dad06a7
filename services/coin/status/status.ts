import { COLUMNS, emptyValues, indexOf, together, type Values } from './columns';
import { diagnose } from './diagnosis';
import { type Figures, figuresOf, type History, historyOf } from './figures';
import type { Circumstances, Diagnosis } from './finding';
import type { Sample } from './samples';

/** The state of a process beside its figures. Holds no ids of users. Times are in seconds since 1970. */
export interface Facts extends Omit<Circumstances, 'processes' | 'processesAway' | 'time'> {
  /** The name of the host. */
  readonly replica: string;
  readonly startTime: number;
  readonly versions: {
    readonly service: string;
    readonly node: string;
    /** null: not read yet. */
    readonly postgres: string | null;
  };
  /** Where the keys that verify tokens are from. */
  readonly tokenKeys: {
    readonly from: 'url' | 'file' | 'development key';
    /** The last successful fetch of the URL. */
    readonly lastFetch: number | null;
  };
}

/** The facts and samples of one process. */
export interface ProcessRecord {
  readonly facts: Facts;
  readonly latest: Sample;
  readonly samples: readonly Sample[];
}

/** The answer of /status.json: a replica with all its worker processes. */
export interface Status extends Omit<Facts, keyof Circumstances> {
  readonly time: number;
  readonly processes: number;
  readonly processesAway: number;
  readonly certificateEnd: number | null;
  readonly fenceReason: string | null;
  readonly diagnosis: Diagnosis;
  /** The figures of the last 10 to 20 seconds. */
  readonly now: Figures;
  readonly history: History;
}

/** Joins the processes of a replica. Counts and levels are added where that makes sense; see columns.ts. */
export function statusOf(first: ProcessRecord, others: readonly ProcessRecord[], processesAway: number): Status {
  const all = [first, ...others];
  const { replica, versions, tokenKeys, certificateEnd } = first.facts;
  const facts = all.map((record) => record.facts);
  const circumstances: Circumstances = {
    isReady: facts.every(({ isReady }) => isReady),
    waitingFor: firstOf(facts.map(({ waitingFor }) => waitingFor)),
    fenceReason: firstOf(facts.map(({ fenceReason }) => fenceReason)),
    isStopping: facts.some(({ isStopping }) => isStopping),
    certificateEnd,
    processes: all.length,
    processesAway,
    time: first.latest.time,
  };
  const now = figuresOf(
    all.map(({ latest }) => latest.values).reduce(together),
    Math.max(...all.map(({ latest }) => latest.seconds)),
  );
  return {
    replica,
    startTime: Math.min(...facts.map(({ startTime }) => startTime)),
    versions: { ...versions, postgres: firstOf(facts.map((one) => one.versions.postgres)) },
    tokenKeys,
    time: circumstances.time,
    processes: all.length,
    processesAway,
    certificateEnd,
    fenceReason: circumstances.fenceReason,
    diagnosis: diagnose({ ...circumstances, figures: now }),
    now,
    history: historyOf(joined(all)),
  };
}

/** Adds the samples of the processes that ended at the same time. */
function joined(records: readonly ProcessRecord[]): Sample[] {
  const byTime = new Map<number, Sample>();
  for (const sample of records.flatMap(({ samples }) => samples)) {
    const same = byTime.get(sample.time);
    byTime.set(
      sample.time,
      same
        ? { ...same, seconds: Math.max(same.seconds, sample.seconds), values: together(same.values, sample.values) }
        : sample,
    );
  }
  return [...byTime.values()].sort((one, other) => one.time - other.time);
}

const firstOf = <T>(values: readonly (T | null)[]): T | null => values.find((value) => value !== null) ?? null;

/** Writes a record as JSON for another process of the same replica. Zeros and unknown values are left out. */
export function encodeRecord({ facts, latest, samples }: ProcessRecord): string {
  return JSON.stringify({ facts, latest: encodeSample(latest), samples: samples.map(encodeSample) });
}

/** Reads a record that `encodeRecord` wrote. Columns that are not known here are ignored. */
export function decodeRecord(text: string): ProcessRecord {
  const { facts, latest, samples } = JSON.parse(text) as {
    facts: Facts;
    latest: EncodedSample;
    samples: EncodedSample[];
  };
  return { facts, latest: decodeSample(latest), samples: samples.map(decodeSample) };
}

interface EncodedSample {
  readonly time: number;
  readonly seconds: number;
  readonly values: Readonly<Record<string, number>>;
}

function encodeSample({ time, seconds, values }: Sample): EncodedSample {
  const unlike = emptyValues();
  const entries = COLUMNS.flatMap((name, index): [string, number][] => {
    const value = values[index] ?? Number.NaN;
    return Object.is(value, unlike[index]) ? [] : [[name, value]];
  });
  return { time, seconds, values: Object.fromEntries(entries) };
}

function decodeSample({ time, seconds, values: given }: EncodedSample): Sample {
  const values: Values = emptyValues();
  for (const [name, value] of Object.entries(given)) {
    const index = indexOf(name);
    if (index !== undefined) values[index] = value;
  }
  return { time, seconds, values };
}
