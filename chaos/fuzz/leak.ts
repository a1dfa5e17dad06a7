import type { Edit } from '../service/breaks';

/** A leak that the fuzz must report: the service keeps the headers of every call. */
export const LEAK: Edit = {
  file: 'transport/call-headers.js',
  from: "const timeout = headers['grpc-timeout'];",
  to: "(globalThis.kept ??= []).push(headers); const timeout = headers['grpc-timeout'];",
};
