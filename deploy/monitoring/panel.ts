import { runbookUrl } from './alerts';

/** A colour from this value on; the first one has no lower end. */
export type Threshold = readonly [from: number | null, color: 'green' | 'orange' | 'red'];

/** A word in the place of a number. */
export type Word = readonly [value: number, text: string, color: 'green' | 'orange' | 'red'];

/** A panel in the terms of this dashboard. */
export interface Panel {
  readonly title: string;
  /** The text behind the "i" of the panel: the meaning of what is shown, and when it is bad. */
  readonly description: string;
  /** Default: a chart over time. */
  readonly type?: 'stat' | 'timeseries' | 'state-timeline' | 'table';
  /** Expressions of PromQL, each with the legend of its series. */
  readonly queries: readonly (readonly [legend: string, expr: string])[];
  /** Unit of Grafana; default `short`. */
  readonly unit?: string;
  /** The alerts for this; the panel links to their sections of the runbook. */
  readonly alerts?: readonly string[];
  readonly thresholds?: readonly Threshold[];
  readonly words?: readonly Word[];
  /** The words of the second and further queries, where they differ. */
  readonly otherWords?: Readonly<Record<string, readonly Word[]>>;
  /** The text if there is no value. */
  readonly noValue?: string;
  /** The width in columns, of which a row has 24; default 8. */
  readonly width?: number;
  readonly height?: number;
  readonly isStacked?: boolean;
  /** Shows the names of the series instead of their values. */
  readonly showsNames?: boolean;
  /** The headings of the labels that a table shows. */
  readonly columns?: Readonly<Record<string, string>>;
}

export interface Position {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

export const DATASOURCE = { type: 'prometheus', uid: '$' + '{datasource}' };

const REF_IDS = 'ABCDEFGH';

/** Returns a panel as Grafana's JSON has it. */
export function toJson(panel: Panel, id: number, gridPos: Position, toStyle: (expr: string) => string): object {
  const { title, description, type = 'timeseries', queries, alerts = [] } = panel;
  const isNow = type === 'stat' || type === 'table';
  return {
    id,
    type,
    title,
    description,
    datasource: DATASOURCE,
    gridPos,
    links: alerts.map((alert) => ({ title: `Runbook: ${alert}`, url: runbookUrl(alert), targetBlank: true })),
    fieldConfig: { defaults: defaultsOf(panel), overrides: overridesOf(panel) },
    options: OPTIONS[type](panel),
    ...(type === 'table' && { transformations: transformationsOf(panel) }),
    targets: queries.map(([legendFormat, expr], index) => ({
      refId: REF_IDS[index],
      datasource: DATASOURCE,
      expr: toStyle(expr),
      legendFormat,
      ...(isNow && { instant: true, range: false }),
      ...(type === 'table' && { format: 'table' }),
    })),
  };
}

const OPTIONS: Readonly<Record<NonNullable<Panel['type']>, (panel: Panel) => object>> = {
  stat: ({ showsNames = false }) => ({
    colorMode: 'background',
    graphMode: 'none',
    textMode: showsNames ? 'name' : 'value',
    reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
  }),
  timeseries: () => ({
    legend: { displayMode: 'list', placement: 'bottom', showLegend: true },
    tooltip: { mode: 'multi', sort: 'desc' },
  }),
  'state-timeline': () => ({ showValue: 'auto', mergeValues: true, rowHeight: 0.8 }),
  table: () => ({ showHeader: true }),
};

function defaultsOf({ type = 'timeseries', unit = 'short', thresholds, words = [], noValue, isStacked }: Panel) {
  return {
    unit,
    ...(type === 'timeseries' && { min: 0 }),
    ...(noValue !== undefined && { noValue }),
    mappings: mappingsOf(words),
    thresholds: {
      mode: 'absolute',
      steps: (thresholds ?? [[null, 'green']]).map(([value, color]) => ({ value, color })),
    },
    color: { mode: type === 'timeseries' ? 'palette-classic' : 'thresholds' },
    ...(type === 'timeseries' && {
      custom: {
        ...(thresholds && { thresholdsStyle: { mode: 'dashed' } }),
        ...(isStacked && { stacking: { mode: 'normal', group: 'A' }, fillOpacity: 25 }),
      },
    }),
  };
}

function mappingsOf(words: readonly Word[]): object[] {
  if (words.length === 0) return [];
  const options = Object.fromEntries(words.map(([value, text, color], index) => [value, { text, color, index }]));
  return [{ type: 'value', options }];
}

function overridesOf({ otherWords = {} }: Panel): object[] {
  return Object.entries(otherWords).map(([legend, words]) => ({
    matcher: { id: 'byName', options: legend },
    properties: [{ id: 'mappings', value: mappingsOf(words) }],
  }));
}

/** Makes one table of all queries, with the columns in their order. */
function transformationsOf({ columns = {} }: Panel): object[] {
  const names = Object.keys(columns);
  return [
    { id: 'merge', options: {} },
    { id: 'filterFieldsByName', options: { include: { names } } },
    {
      id: 'organize',
      options: { indexByName: Object.fromEntries(names.map((name, at) => [name, at])), renameByName: columns },
    },
  ];
}
