/** Returns the number of calls that ended with another code than OK, except those that their caller cancelled. */
export function failures(codes: Readonly<Record<string, number>>): number {
  return Object.entries(codes).reduce(
    (sum, [code, calls]) => (code === 'OK' || code === 'CANCELLED' ? sum : sum + calls),
    0,
  );
}
