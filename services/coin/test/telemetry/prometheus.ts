import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../../../../testkit/eventually';
import { freePorts } from '../../../../testkit/free-port';
import { ROOT } from '../../../../testkit/root';

const DEPLOY = join(ROOT, 'deploy');

const readDeployed = (file: string) => readFileSync(join(DEPLOY, file), 'utf8');

/**
 * A real Prometheus with the deployed alerts. It scrapes often, and minutes in the alerts are
 * replaced by seconds.
 */
export class Prometheus {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #url: string;

  private constructor(child: ChildProcess, folder: string, port: number) {
    this.#child = child;
    this.#folder = folder;
    this.#url = `http://127.0.0.1:${port}`;
  }

  /** @param ports metrics ports to scrape, on the loopback interface */
  static async start(ports: readonly number[]): Promise<Prometheus> {
    const folder = mkdtempSync(join(tmpdir(), 'aqm-prometheus-'));
    const rules = readDeployed('prometheus-alerts.yml')
      .replaceAll(/\[\d+[mh]\]/g, '[3s]')
      .replaceAll(/for: \d+[mh]/g, 'for: 500ms');
    writeFileSync(join(folder, 'prometheus-alerts.yml'), rules);
    const config = readDeployed('prometheus.yml')
      .replaceAll(/_interval: \S+/g, '_interval: 250ms')
      .replace('"coin:9464"', ports.map((port) => `"127.0.0.1:${port}"`).join());
    writeFileSync(join(folder, 'prometheus.yml'), config);
    const [port = 0] = await freePorts(1);
    const child = spawn(
      'prometheus',
      [
        `--config.file=${join(folder, 'prometheus.yml')}`,
        `--storage.tsdb.path=${join(folder, 'data')}`,
        `--web.listen-address=127.0.0.1:${port}`,
      ],
      { stdio: 'ignore' },
    );
    const prometheus = new Prometheus(child, folder, port);
    await eventually('Prometheus has scraped all targets', async () => {
      if (child.exitCode !== null) throw new Error('Prometheus has exited');
      const [up] = await prometheus.query('sum(up)').catch((): number[] => []);
      return up === ports.length;
    });
    return prometheus;
  }

  /** Returns the values of an instant query. */
  async query(expression: string): Promise<number[]> {
    const data = await this.#get<{ result: { value: [number, string] }[] }>(
      `query?query=${encodeURIComponent(expression)}`,
    );
    return data.result.map(({ value }) => Number(value[1]));
  }

  /** Returns the alerts that are firing. */
  async firing(): Promise<{ readonly name: string; readonly description: string }[]> {
    const { alerts } = await this.#get<{
      alerts: { state: string; labels: { alertname: string }; annotations: { description: string } }[];
    }>('alerts');
    return alerts
      .filter(({ state }) => state === 'firing')
      .map(({ labels, annotations }) => ({ name: labels.alertname, description: annotations.description }));
  }

  async rules(): Promise<{ readonly name: string; readonly query: string; readonly health: string }[]> {
    const { groups } = await this.#get<{ groups: { rules: { name: string; query: string; health: string }[] }[] }>(
      'rules',
    );
    return groups.flatMap(({ rules }) => rules);
  }

  async #get<T>(path: string): Promise<T> {
    const response = await fetch(`${this.#url}/api/v1/${path}`);
    const { status, data, error } = (await response.json()) as { status: string; data: T; error?: string };
    if (status !== 'success') throw new Error(error);
    return data;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null) {
      this.#child.kill('SIGKILL');
      await once(this.#child, 'exit');
    }
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 3 });
  }
}
