/**
 * True in a full run (`npm run check`), where files named `*.long.test.ts` run too and suites that walk many cases walk all of
 * them. False in `npm test`, which proves every promise with fewer cases.
 */
export const IS_FULL_RUN = process.env.TEST_TIER === 'full';
