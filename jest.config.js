/** @type {import('jest').Config} */
module.exports = {
  testMatch: ['**/*.test.ts'],
  testPathIgnorePatterns: ['/node_modules/', '/dist/'],
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
