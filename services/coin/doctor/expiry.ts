import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';

const DAY_MS = 86_400_000;
/** A certificate that expires sooner should have been renewed, in days. */
export const RENEW_DAYS = 14;
const BLOCK = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/** Returns the certificates of a PEM file, in their order. */
export function certificatesIn(text: string): X509Certificate[] {
  return [...text.matchAll(BLOCK)].map(([block]) => new X509Certificate(block));
}

/** Returns the number of full days until a certificate ends; negative if it has ended. */
export function daysLeft({ validToDate }: X509Certificate, now: () => Date): number {
  return Math.floor((validToDate.getTime() - now().getTime()) / DAY_MS);
}

/** Describes the certificate of a file that ends first, if that is soon; undefined if none does, or the file is unreadable. */
export function expiryOf(file: string, now: () => Date): string | undefined {
  return endingSoon(readFileSync(file, 'utf8'), now);
}

/** Describes the certificate of a PEM text that ends first, if that is soon or was already. */
export function endingSoon(text: string, now: () => Date): string | undefined {
  const [first] = certificatesIn(text).sort((a, b) => a.validToDate.getTime() - b.validToDate.getTime());
  if (!first || daysLeft(first, now) >= RENEW_DAYS) return undefined;
  const verb = daysLeft(first, now) < 0 ? 'expired' : 'expires';
  return `the certificate of "${first.subject.replaceAll('\n', ', ')}" ${verb} at ${first.validToDate.toISOString()}`;
}
