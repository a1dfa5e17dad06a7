/** What is about the process and its sockets is the same for every PostgreSQL, and is tested with the default one alone. */
const isOtherDatabase = process.env.AQM_POSTGRES_PACKAGE ?? process.env.TEST_POOLER;
const SAME_FOR_EVERY_DATABASE = [
  'alerts',
  'coin-limits',
  'command-line',
  'connections',
  'encode',
  'floods',
  'health-and-reflection',
  'cli/health',
  'intercept',
  'limits',
  'listener',
  'metrics',
  'count-on-replica',
  'secret-settings',
  'sql-is-bound',
  'tls',
  'token-keys',
  'tracing',
  'queue-delay-estimate',
  'workers',
];

/** @type {import('jest').Config} */
module.exports = {
  testMatch: ['**/*.test.ts'],
  testPathIgnorePatterns: [
    '/node_modules/',
    '/dist/',
    ...(isOtherDatabase
      ? SAME_FOR_EVERY_DATABASE.map((name) => `/services/coin/test/(?:.*/)?${name}\\.test\\.ts$`)
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
  testTimeout: 60_000,
  reporters: ['default', '<rootDir>/build/summary-reporter.cjs'],
};
