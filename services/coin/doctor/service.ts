import type { ServiceState } from '../ask-service';
import { type Check, fail, ok, warn } from './check';

/** The advice for a service that is fenced because its database was exchanged while it ran; only the service knows this reason. */
export const OTHER_DATABASE_ADVICE =
  'if DATABASE_URL is meant to lead to another database now, restart every service; otherwise lead it back (docs/runbook.md, "After a restore")';

/** Judges the answer of the service that runs on this machine. */
export function checkService({ address, state, fenceReason, error }: ServiceState): Check {
  const name = 'service';
  if (state === 'absent') return ok(name, `no service listens at ${address} (AQM_LISTEN)`);
  if (state === 'unknown') {
    return warn(
      name,
      `what listens at ${address} does not answer as the service does: ${error}`,
      'check AQM_LISTEN and the TLS settings, and what runs there',
    );
  }
  if (state === 'serving') return ok(name, `the service at ${address} serves`);
  if (fenceReason === 'OTHER_DATABASE') {
    const found = `the service at ${address} is fenced (OTHER_DATABASE): it started with another database than this one`;
    return fail(name, found, OTHER_DATABASE_ADVICE);
  }
  if (fenceReason !== null) {
    return fail(name, `the service at ${address} is fenced (${fenceReason})`, 'see docs/runbook.md, "After a restore"');
  }
  return warn(
    name,
    `the service at ${address} does not serve: it waits for its database or its token keys, or stops`,
    'its log says what is missing',
  );
}
