import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface StatusPage {
  readonly html: string;
  /** The Content-Security-Policy: nothing but the scripts and styles of this page, and requests to its own origin. */
  readonly policy: string;
}

let page: StatusPage | undefined;

/** Returns the status page, one document without references to others. Reads its parts at the first call. */
export function statusPage(): StatusPage {
  page ??= makePage();
  return page;
}

function makePage(): StatusPage {
  const own = (name: string) => readFileSync(join(__dirname, name), 'utf8');
  const ofLibrary = (name: string) => readFileSync(require.resolve(`uplot/dist/${name}`), 'utf8');
  // The script of the library declares uPlot, which ours uses.
  const scripts = [ofLibrary('uPlot.iife.min.js'), own('page.mjs')];
  const styles = [ofLibrary('uPlot.min.css'), own('page.css')];
  // A function, because "$&" in a text would be replaced.
  const html = own('page.html')
    .replace('<!-- styles -->', () => styles.map((text) => `<style>${text}</style>`).join('\n'))
    .replace('<!-- scripts -->', () => scripts.map((text) => `<script>${text}</script>`).join('\n'));
  return {
    html,
    policy: [
      "default-src 'none'",
      `script-src ${scripts.map(hashOf).join(' ')}`,
      `style-src ${styles.map(hashOf).join(' ')}`,
      "connect-src 'self'",
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
    ].join('; '),
  };
}

function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}
