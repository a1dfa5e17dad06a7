import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';

export interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly legendFormat: string;
  readonly datasource: { readonly uid: string };
}

export interface DashboardPanel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly links?: readonly { readonly title: string; readonly url: string }[];
  readonly fieldConfig: {
    readonly defaults: {
      readonly mappings: readonly { readonly options: Readonly<Record<string, { text: string; color: string }>> }[];
      readonly thresholds: { readonly steps: readonly { readonly value: number | null; readonly color: string }[] };
      readonly custom?: { readonly thresholdsStyle?: { readonly mode: string } };
    };
  };
  readonly targets?: readonly Target[];
}

export interface Dashboard {
  readonly templating: { readonly list: readonly { readonly name: string; readonly query: unknown }[] };
  readonly panels: readonly DashboardPanel[];
}

/** Reads a dashboard below deploy/. */
export function readDashboard(file: string): Dashboard {
  return JSON.parse(readFileSync(join(ROOT, 'deploy', file), 'utf8'));
}

/** Returns the expressions of a panel as Prometheus receives them from Grafana. */
export const expressionsOf = ({ targets = [] }: DashboardPanel) =>
  targets.map(({ expr }) => expr.replaceAll('$__rate_interval', '5m').replaceAll('$instance', '.*'));
