import { Timestamp } from '../../../gen/google/protobuf/timestamp';

/** The range of a protobuf Timestamp: years 1 to 9999, in seconds since 1970. */
const MIN_SECONDS = -62_135_596_800n;
const MAX_SECONDS = 253_402_300_799n;
const MAX_NANOS = 999_999_999;
/** Beyond what a Date holds, so that it becomes an invalid Date. */
const NO_TIME: Timestamp = { seconds: 2n ** 62n, nanos: 0 };

const decode = Timestamp.decode;
/**
 * The generated decoders of messages call this one and turn its result into a Date, which would
 * accept nanos outside their range. Such a time becomes an invalid Date.
 */
Timestamp.decode = (input, length) => {
  const decoded = decode(input, length);
  const { seconds, nanos } = decoded;
  const isValid = seconds >= MIN_SECONDS && seconds <= MAX_SECONDS && nanos >= 0 && nanos <= MAX_NANOS;
  return isValid ? decoded : NO_TIME;
};

/** Describes the times that isAfter1970 accepts. */
export const AFTER_1970 = 'must be a time between the years 1970 and 9999, with nanos from 0 to 999999999';

/**
 * Returns true for a valid time after 1970. Protobuf times begin in the year 1, but no time of this
 * contract makes sense before 1970.
 */
export function isAfter1970(time: Date): boolean {
  return time.getTime() >= 0;
}
