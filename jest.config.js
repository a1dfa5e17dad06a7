const { availableParallelism } = require('node:os');

/** True in `npm run check`, which also runs the files named `*.long.test.ts` (testkit/tier.ts). */
const isFullRun = process.env.TEST_TIER === 'full';

/** True where the suite runs on another PostgreSQL than the default one, or through a pooler. */
const isOtherDatabase = process.env.AQM_POSTGRES_PACKAGE ?? process.env.TEST_POOLER;
/** Tests of the process and its sockets, which are the same for every PostgreSQL and run with the default one alone. */
const SAME_FOR_EVERY_DATABASE = [
  'alerts',
  'authenticate',
  'call-limits',
  'coin-limits',
  'command-line',
  'connections',
  'decode',
  'encode',
  'floods',
  'health-and-reflection',
  'health-check',
  'intercept',
  'limits',
  'listener',
  'log-output',
  'many-tokens',
  'metrics',
  'count-on-replica',
  'process',
  'secret-settings',
  'sql-is-bound',
  'startup',
  'tls',
  'token-keys',
  'tracing',
  'queue-delay-estimate',
  'workers',
];

/** @type {import('jest').Config} */
module.exports = {
  testMatch: ['**/*.test.ts', ...(isFullRun ? [] : ['!**/*.long.test.ts'])],
  testPathIgnorePatterns: [
    '/node_modules/',
    '/dist/',
    ...(isOtherDatabase
      ? SAME_FOR_EVERY_DATABASE.map((name) => `/services/coin/test/(?:.*/)?${name}(\\.long)?\\.test\\.ts$`)
      : []),
  ],
  modulePathIgnorePatterns: ['<rootDir>/dist/'],
  transform: {
    '\\.[jt]s$': [
      '@swc/jest',
      { jsc: { parser: { syntax: 'typescript' }, target: 'es2024' }, module: { type: 'commonjs' } },
    ],
  },
  // These ship as ES modules only.
  transformIgnorePatterns: ['/node_modules/(?!(jose|kysely)/)'],
  globalSetup: '<rootDir>/testkit/jest-global-setup.ts',
  globalTeardown: '<rootDir>/testkit/jest-global-teardown.ts',
  // One more than there are cores, because most tests wait for another process much of their time.
  maxWorkers: availableParallelism() + 1,
  // Ends a test that hangs. It is generous, because a busy machine is no failure.
  testTimeout: 240_000,
  reporters: ['default', '<rootDir>/build/summary-reporter.cjs'],
};
