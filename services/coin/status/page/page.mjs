// The script of the status page. It is placed in the page after uPlot, reads /status.json every two seconds, and shows it.
/* global uPlot */
(() => {
  const REFRESH_MS = 2000;
  const TIMEOUT_MS = 5000;
  const KEEP = 360;
  const HEIGHT = 150;
  const MARKS = { well: '✓', notice: 'i', warning: '!', failure: '✕', unknown: '?' };
  const WORDS = { well: 'Well', notice: 'Notice', warning: 'Warning', failure: 'Failure', unknown: 'Unknown' };

  const perSecond = (value) => `${number(value)}/s`;
  const ms = (value) => (value >= 1000 ? `${number(value / 1000)} s` : `${number(value)} ms`);
  const CHARTS = [
    { title: 'Calls', unit: perSecond, series: { all: 'callsPerSecond', failed: 'refusedPerSecond' } },
    { title: 'Duration of calls', unit: ms, series: { p50: 'p50Ms', p99: 'p99Ms' } },
    {
      title: 'Coins',
      unit: perSecond,
      series: { 'handed out': 'coinsFetchedPerSecond', uploaded: 'coinsUploadedPerSecond' },
    },
    { title: 'Fetches per statement', unit: number, series: { 'batch size': 'batchSize', waiting: 'fetchesWaiting' } },
    {
      title: 'Connections to PostgreSQL',
      unit: number,
      series: { used: 'poolUsed', 'statements waiting': 'poolWaiting' },
    },
    {
      title: 'Coins in stock',
      unit: number,
      series: { gold: 'stockGold', silver: 'stockSilver', bronze: 'stockBronze' },
    },
    {
      title: 'Devices without coins',
      unit: percent,
      series: { gold: 'emptyGold', silver: 'emptySilver', bronze: 'emptyBronze' },
    },
  ];

  const byId = (id) => document.getElementById(id);
  const element = (tag, text, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  function number(value) {
    if (value === null || value === undefined) return 'unknown';
    if (value !== 0 && Math.abs(value) < 10) return String(Math.round(value * 10) / 10);
    return Math.round(value).toLocaleString('en');
  }
  function percent(value) {
    return value === null || value === undefined ? 'none known' : `${number(100 * value)} %`;
  }
  function duration(seconds) {
    if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`;
    if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
    if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
    return `${Math.round(seconds / 86_400)} days`;
  }
  const mebibytes = (bytes) => (bytes === null ? 'unknown' : `${number(bytes / 2 ** 20)} MiB`);

  /** Shows the finding of the service, or that the service does not answer. */
  function showDiagnosis({ level, title, sentence, document: place, findings = [] }) {
    byId('diagnosis').className = level;
    byId('mark').textContent = MARKS[level];
    setText('level', WORDS[level]);
    setText('verdict', title);
    setText('sentence', sentence);
    setText('document', place ? `More: ${place}` : '');
    const others = findings.slice(1);
    byId('further').hidden = others.length === 0;
    byId('findings').replaceChildren(
      ...others.map((other) => {
        const item = element('li', undefined, other.level);
        item.append(element('strong', `${WORDS[other.level]}: ${other.title}. `), other.sentence);
        return item;
      }),
    );
  }

  /** A text that stays the same is not announced again by a screen reader. */
  function setText(id, text) {
    if (byId(id).textContent !== text) byId(id).textContent = text;
  }

  function figuresOf({ now, time, tokenKeys, certificateEnd, processes, fenceReason }) {
    const { stock, empty, pool } = now;
    const keys =
      now.areTokenKeysUp === null
        ? [tokenKeys.from, false]
        : [
            now.areTokenKeysUp
              ? `fetched ${tokenKeys.lastFetch ? duration(time - tokenKeys.lastFetch) : '?'} ago`
              : 'cannot be fetched',
            !now.areTokenKeysUp,
          ];
    return [
      ['Calls', perSecond(now.callsPerSecond)],
      ['p50', now.p50Ms === null ? 'no calls' : ms(now.p50Ms)],
      ['p99', now.p99Ms === null ? 'no calls' : ms(now.p99Ms)],
      ['Database', now.isDatabaseUp ? 'answers' : 'away', !now.isDatabaseUp],
      ['Restore fence', now.isFenced ? `fenced${fenceReason ? `: ${fenceReason}` : ''}` : 'open', now.isFenced],
      ['Token keys', ...keys],
      [
        'TLS certificate',
        certificateEnd === null ? 'none (plain text)' : `${duration(certificateEnd - time)} left`,
        certificateEnd !== null && certificateEnd < time,
      ],
      ['Calls in progress', number(now.callsInFlight)],
      ['Client connections', number(now.connections)],
      ['Fetches waiting', number(now.fetchesWaiting)],
      ['Fetches per statement', now.batchSize === null ? 'no fetches' : number(now.batchSize)],
      ['Database connections', `${number(pool.used)} of ${number(pool.max)}`],
      ['Statements waiting', number(pool.waiting)],
      ...Object.entries(stock).map(([name, coins]) => [`Stock ${name.toLowerCase()}`, number(coins)]),
      ...Object.entries(empty).map(([name, share]) => [`Devices without ${name.toLowerCase()}`, percent(share)]),
      ['Memory', mebibytes(now.memoryBytes)],
      ['Processor', `${number(now.cpuCores)} cores`],
      ['Event loop busy', percent(now.eventLoop)],
      ['Processes', number(processes)],
    ];
  }

  function showFigures(status) {
    byId('figures').replaceChildren(
      ...figuresOf(status).map(([label, value, isBad]) => {
        const card = element('div');
        card.append(
          element('dt', label),
          element('dd', isBad ? `${value} ✕` : value, `${isBad ? 'bad' : ''}${value.length > 16 ? ' long' : ''}`),
        );
        return card;
      }),
    );
    const { versions, replica, startTime, time } = status;
    setText(
      'about',
      `${replica} · version ${versions.service}, Node ${versions.node}, PostgreSQL ${versions.postgres ?? 'unknown'} · up ${duration(time - startTime)}`,
    );
  }

  function showOutcomes({ now }) {
    const table = (title, rows, none) => {
      const made = element('table');
      made.append(element('caption', title));
      const entries = Object.entries(rows).filter(([, count]) => count > 0);
      for (const [name, count] of entries) {
        const row = made.insertRow();
        const label = element('th', name);
        label.scope = 'row';
        row.append(label, element('td', number(count)), element('td', perSecond(count / now.seconds)));
      }
      if (entries.length === 0) made.insertRow().append(element('th', none));
      return made;
    };
    setText('period', `last ${Math.round(now.seconds)} s`);
    byId('outcomes').replaceChildren(
      table('gRPC status', now.codes, 'no calls'),
      table('Reason of failed calls', now.reasons, 'none failed'),
      table('Fetches, each item of a batch', now.fetches, 'no fetches'),
    );
  }

  /** The columns of the last hour, by name. */
  let history;
  const charts = [];

  function addHistory(next) {
    if (!history) history = next;
    else {
      for (const [name, column] of Object.entries(next)) {
        if (Array.isArray(column)) history[name] = [...history[name], ...column].slice(-KEEP);
      }
    }
  }

  function drawCharts() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    for (const { plot, figure } of charts.splice(0)) {
      plot.destroy();
      figure.remove();
    }
    for (const chart of CHARTS) {
      const figure = element('figure');
      const caption = element('figcaption');
      figure.append(caption);
      byId('charts').append(figure);
      const names = Object.keys(chart.series);
      const lines = names.map((_, index) => ({
        stroke: colour(names[index] === 'failed' ? '--failure' : `--series-${index + 1}`),
        width: 2,
        dash: [undefined, [8, 4], [2, 3]][index],
        points: { show: (_plot, series) => isolated(history[chart.series[names[series - 1]]]) },
      }));
      const axis = {
        stroke: colour('--faint'),
        grid: { stroke: colour('--line'), width: 1 },
        ticks: { show: false },
        font: '12px system-ui, sans-serif',
      };
      const options = {
        width: widthOf(figure),
        height: HEIGHT,
        // Room for half of the last mark of the time.
        padding: [null, 30, null, null],
        legend: { show: false },
        cursor: { drag: { x: false, y: false } },
        scales: { y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
        series: [{}, ...lines],
        axes: [
          { ...axis, size: 30, space: 72, values: clockTimes },
          { ...axis, size: 60, values: (_plot, splits) => splits.map((split) => chart.unit(split)) },
        ],
        hooks: { setCursor: [(plot) => describe(chart, caption, figure, plot.cursor.idx)] },
      };
      const plot = new uPlot(options, dataOf(chart), figure);
      charts.push({ plot, chart, figure, caption });
      describe(chart, caption, figure, null);
    }
  }

  /** A single value between gaps has no line, so it is drawn as a point. */
  function isolated(column) {
    return column.some(
      (value, index) => value !== null && (column[index - 1] ?? null) === null && (column[index + 1] ?? null) === null,
    );
  }

  /** Shows seconds where one minute has several marks. */
  const clockTimes = (_plot, splits) => {
    const isClose = splits.length > 1 && splits[1] - splits[0] < 60;
    return splits.map((split) => clock(split).slice(0, isClose ? 8 : 5));
  };
  const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString('en-GB');
  const dataOf = ({ series }) => [history.time, ...Object.values(series).map((name) => history[name])];
  const widthOf = (figure) => Math.max(200, figure.clientWidth - 24);

  /** Writes the values of one moment, by default the last one, which is also the text of the chart for screen readers. */
  function describe({ title, unit, series }, caption, figure, index) {
    const at = index ?? history.time.length - 1;
    const when = index === null || index === undefined ? '' : ` at ${clock(history.time[at])}`;
    const values = Object.entries(series).map(
      ([name, column]) =>
        `${name} ${history[column][at] === undefined || history[column][at] === null ? 'none' : unit(history[column][at])}`,
    );
    caption.replaceChildren(
      element('b', `${title}${when}`),
      ...values.map((text, place) =>
        element('span', text, `key key-${text.startsWith('failed ') ? 'failed' : place + 1}`),
      ),
    );
    const canvas = figure.querySelector('canvas');
    canvas?.setAttribute('role', 'img');
    canvas?.setAttribute('aria-label', `${title} in the last hour; latest: ${values.join(', ')}`);
  }

  function updateCharts() {
    if (charts.length === 0) drawCharts();
    for (const { plot, chart, caption, figure } of charts) {
      plot.setData(dataOf(chart));
      describe(chart, caption, figure, plot.cursor.idx);
    }
  }

  let answeredAt;

  async function refresh() {
    try {
      const since = history?.time.at(-1) ?? 0;
      const response = await fetch(`/status.json?since=${since}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      const status = await response.json();
      answeredAt = new Date();
      // A restarted process has no past.
      const isNew = status.history.time.length > 0;
      addHistory(status.history);
      showDiagnosis(status.diagnosis);
      showFigures(status);
      showOutcomes(status);
      if (isNew || charts.length === 0) updateCharts();
      document.title = `${MARKS[status.diagnosis.level]} ${status.diagnosis.title} · AQM ${status.replica}`;
      document.body.classList.remove('stale');
    } catch {
      const since = answeredAt
        ? `since ${answeredAt.toLocaleTimeString('en-GB')}; the figures below are from then`
        : 'at all';
      showDiagnosis({
        level: 'failure',
        title: 'The service does not answer',
        sentence: `Its metrics port has not answered ${since}. Check that the process runs: its last line on stderr says why it ended.`,
        document: 'docs/runbook.md#aqmservicedown',
      });
      document.title = '✕ no answer · AQM';
    }
    setTimeout(refresh, REFRESH_MS);
  }

  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => history && drawCharts());
  new ResizeObserver(() => {
    for (const { plot, figure } of charts) plot.setSize({ width: widthOf(figure), height: HEIGHT });
  }).observe(document.body);
  void refresh();
})();
