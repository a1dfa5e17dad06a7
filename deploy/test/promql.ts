import { parser } from '@prometheus-io/lezer-promql';

/** The parts of an expression of PromQL that name metrics and labels. */
export interface Parts {
  /** The names of the metrics, and the labels that each is selected by. */
  readonly selectors: readonly { readonly metric: string; readonly labels: readonly string[] }[];
  /** The labels in by (…), without (…) and on (…). */
  readonly groupings: readonly string[];
}

/** Parses an expression with Prometheus' own grammar. @throws where it is not PromQL */
export function partsOf(expression: string): Parts {
  const selectors: { metric: string; labels: string[] }[] = [];
  const groupings: string[] = [];
  let isInSelector = false;
  parser.parse(expression).iterate({
    enter(node) {
      const text = expression.slice(node.from, node.to);
      if (node.type.isError) throw new Error(`not PromQL at ${node.from}: ${expression}`);
      if (node.name === 'VectorSelector') {
        selectors.push({ metric: '', labels: [] });
        isInSelector = true;
      }
      const selector = selectors.at(-1);
      if (isInSelector && selector && node.name === 'Identifier') selector.metric = text;
      if (node.name === 'LabelName') (isInSelector && selector ? selector.labels : groupings).push(text);
    },
    leave(node) {
      if (node.name === 'VectorSelector') isInSelector = false;
    },
  });
  return { selectors, groupings };
}
