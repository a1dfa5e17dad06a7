/** Selects the services that are chosen at the top of the dashboard. */
export const CHOSEN = 'instance=~"$instance"';

/** Grafana's interval for rates: at least four scrapes. */
export const RATE = '[$__rate_interval]';
