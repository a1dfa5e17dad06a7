import { alertsOf, type NameStyle } from './alerts';
import { documentedMetrics, otlpExpression } from './metrics';
import { DATASOURCE, type Panel, toJson } from './panel';
import { ROWS } from './rows';

const COLUMNS = 24;
const HEIGHT = 8;

/** The variables at the top of the dashboard. */
function variables(toStyle: (expr: string) => string): object[] {
  return [
    {
      name: 'datasource',
      label: 'Prometheus',
      type: 'datasource',
      query: 'prometheus',
      current: { text: 'Prometheus', value: 'prometheus' },
    },
    {
      name: 'instance',
      label: 'Service',
      type: 'query',
      datasource: DATASOURCE,
      query: { query: toStyle('label_values(aqm_build_info, instance)'), refId: 'instance' },
      multi: true,
      includeAll: true,
      allValue: '.*',
      current: { text: ['All'], value: ['$__all'] },
      // At each change of the time range.
      refresh: 2,
      sort: 1,
    },
  ];
}

/** Returns the dashboard for metrics with the names of a style, as a file of Grafana. */
export function dashboardFile(style: NameStyle): string {
  const metrics = documentedMetrics();
  const toStyle = (expr: string) => (style === 'otlp' ? otlpExpression(expr, metrics) : expr);
  const dashboard = {
    uid: style === 'otlp' ? 'aqm-coin-otlp' : 'aqm-coin',
    title: style === 'otlp' ? 'AQM coin service (metrics by OTLP)' : 'AQM coin service',
    description: 'Written from deploy/monitoring by "npm run generate".',
    tags: ['aqm'],
    timezone: 'browser',
    schemaVersion: 39,
    version: 1,
    editable: false,
    refresh: '15s',
    time: { from: 'now-1h', to: 'now' },
    templating: { list: variables(toStyle) },
    annotations: { list: [alertAnnotation()] },
    panels: layOut(toStyle),
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}

/** Marks in every chart when an alert of severity page fired. */
function alertAnnotation(): object {
  const pages = alertsOf('prometheus').filter(({ severity }) => severity === 'page');
  return {
    name: 'Alerts of severity page',
    enable: true,
    datasource: DATASOURCE,
    expr: `ALERTS{alertstate="firing",alertname=~"${pages.map(({ alert }) => alert).join('|')}"}`,
    titleFormat: '{{alertname}}',
    textFormat: '{{instance}}',
    iconColor: 'red',
    step: '60s',
  };
}

/** Places the panels of each row from left to right. */
function layOut(toStyle: (expr: string) => string): object[] {
  const placed: object[] = [];
  let y = 0;
  const nextId = () => placed.length + 1;
  for (const { title, panels } of ROWS) {
    placed.push({
      id: nextId(),
      type: 'row',
      title,
      collapsed: false,
      gridPos: { x: 0, y, w: COLUMNS, h: 1 },
      panels: [],
    });
    y += 1;
    let x = 0;
    let h = 0;
    for (const panel of panels) {
      const { w, h: height } = sizeOf(panel);
      if (x + w > COLUMNS) {
        x = 0;
        y += h;
        h = 0;
      }
      placed.push(toJson(panel, nextId(), { x, y, w, h: height }, toStyle));
      x += w;
      h = Math.max(h, height);
    }
    y += h;
  }
  return placed;
}

const sizeOf = ({ width = 8, height = HEIGHT }: Panel) => ({ w: width, h: height });
