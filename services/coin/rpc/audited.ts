import type { Logger } from 'pino';
import { reasonOf } from './status';
import type { Method } from './unary';

/**
 * Returns an admin method each of whose calls leaves a line in the log at `info`: the role of the caller, the method, its
 * numbers, and how many rows it removed or why it failed. A line contains no id of a user, neither the caller's nor
 * the one in the request.
 * @param numbersOf returns the numbers in a request
 */
export function audited<Request, Response extends { readonly deletedCount: bigint }>(
  logger: Logger,
  name: string,
  numbersOf: (request: Request) => Readonly<Record<string, number>>,
  method: Method<Request, Response>,
): Method<Request, Response> {
  return async (request, caller, deadline, callId) => {
    const facts = { callId, method: name, role: caller.isAdmin ? 'admin' : 'user', ...numbersOf(request) };
    try {
      const response = await method(request, caller, deadline, callId);
      logger.info({ ...facts, deletedCount: Number(response.deletedCount) }, 'admin call');
      return response;
    } catch (error) {
      logger.info({ ...facts, reason: reasonOf(error) }, 'admin call failed');
      throw error;
    }
  };
}
