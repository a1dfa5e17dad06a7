import { isLoginRefused } from './sqlstate';

const START = 'check the host and port of DATABASE_URL, and that PostgreSQL is running there';
const NETWORK = 'check the host and port of DATABASE_URL, the network, and that PostgreSQL listens there';
const LOGIN = 'check the user and the password of DATABASE_URL, that the role may log in, and pg_hba.conf';
const POOLER =
  'set AQM_POOLER=transaction and run "aqm migrate timeouts" once, because a pooler such as PgBouncer refuses start-up parameters in this way';
const CERTIFICATE =
  "name the authority of the server's certificate with sslrootcert=FILE in DATABASE_URL, and the host as the certificate does";

/** Advice by SQLSTATE (or its class) and by the error codes of Node. */
const ADVICE: Readonly<Record<string, string>> = {
  '08P01': POOLER,
  '28': LOGIN,
  '3D000': 'create the database (docs/deployment.md, "One machine"), or correct the name at the end of DATABASE_URL',
  '25006': 'set DATABASE_URL to the primary: this is a standby, or the role is read only',
  '53300': 'close other connections, reduce AQM_POOL_SIZE, or raise max_connections of PostgreSQL',
  '57P03': 'wait until PostgreSQL has started or recovered; its log says how far it is',
  ECONNREFUSED: START,
  ENOENT: START,
  EACCES: 'check that this user may use the socket or file',
  ENOTFOUND: 'correct the host name in DATABASE_URL, or its entry in DNS',
  EAI_AGAIN: 'check that DNS answers',
  SELF_SIGNED_CERT_IN_CHAIN: CERTIFICATE,
  DEPTH_ZERO_SELF_SIGNED_CERT: CERTIFICATE,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: CERTIFICATE,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: CERTIFICATE,
  ERR_TLS_CERT_ALTNAME_INVALID: CERTIFICATE,
  CERT_HAS_EXPIRED: "renew the server's certificate",
};

/** Returns what an operator can do about a connection to PostgreSQL that could not be opened. Begins in lower case. */
export function connectionAdvice(error: unknown): string {
  const { code = '', syscall } = error as { code?: string; syscall?: string };
  // The driver reads the files of sslrootcert, sslcert and sslkey when it connects.
  if (syscall === 'open') return 'correct the path of the file in DATABASE_URL, and let this user read it';
  return ADVICE[code] ?? ADVICE[code.slice(0, 2)] ?? NETWORK;
}

/** Explains to operators why a connection to PostgreSQL could not be opened, and what helps. */
export function explainConnection(error: unknown): string {
  const problem = isLoginRefused(error) ? 'refuses the connection' : 'cannot be reached';
  const advice = connectionAdvice(error);
  const { message } = error as Error;
  return `The database of DATABASE_URL ${problem}: ${message}. ${advice.charAt(0).toUpperCase()}${advice.slice(1)}.`;
}
