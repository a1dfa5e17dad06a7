/** What is about the process and its sockets is the same for every PostgreSQL, and is tested with the default one alone. */
const isOtherDatabase = process.env.AQM_POSTGRES_PACKAGE ?? process.env.AQM_TEST_POOLER;
const SAME_FOR_EVERY_DATABASE = [
  'alerts',
  'coin-limits',
  'command-line',
  'connections',
  'encode',
  'floods',
  'health-and-reflection',
  'health-command',
  'intercept',
  'limits',
  'listener',
  'metrics',
  'read-replica',
  'secret-settings',
  'sql-is-bound',
  'tls',
  'token-keys',
  'tracing',
  'waiting',
  'workers',
];

/** @type {import('jest').Config} */
module.exports = {
  testMatch: ['**/*.test.ts'],
  testPathIgnorePatterns: [
    '/node_modules/',
    '/dist/',
    ...(isOtherDatabase ? SAME_FOR_EVERY_DATABASE.map((name) => `/services/coin/test/${name}\\.test\\.ts$`) : []),
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
  globalSetup: '<rootDir>/services/coin/test/start-postgres.ts',
  globalTeardown: '<rootDir>/services/coin/test/stop-postgres.ts',
  testTimeout: 60_000,
  reporters: ['default', '<rootDir>/build/summary-reporter.cjs'],
};
