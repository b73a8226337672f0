/** Figures of the server, from its metrics: what has happened between two looks at them. */

/** @typedef {{name: string, labels: Record<string, string>, value: number}} Sample */
/** @typedef {{at: number, samples: Sample[]}} Look */

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;

/** @param {string} text in Prometheus' format @returns {Sample[]} */
export function samples(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const parts = line.startsWith("#") ? null : LINE.exec(line);
    if (!parts) continue;
    const labels = Object.fromEntries([...(parts[2] || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)]
      .map(([, name, value]) => [name, value.replace(/\\(.)/g, "$1")]));
    found.push({ name: parts[1], labels, value: Number(parts[3]) });
  }
  return found;
}

/** @param {Sample} sample */
function key(sample) {
  return sample.name + JSON.stringify(sample.labels);
}

/**
 * What the counters have grown by; one that the earlier look has not counts from nought.
 *
 * @param {Look} before
 * @param {Look} now
 * @param {string} name
 * @param {(labels: Record<string, string>) => boolean} wanted
 */
function grown(before, now, name, wanted) {
  const old = new Map(before.samples.filter((one) => one.name === name).map((one) => [key(one), one.value]));
  return now.samples.filter((one) => one.name === name && wanted(one.labels))
    .map((one) => ({ labels: one.labels, value: one.value - (old.get(key(one)) || 0) }));
}

/** @param {{value: number}[]} some */
const total = (some) => some.reduce((sum, one) => sum + one.value, 0);

const PREDICTIONS = (/** @type {Record<string, string>} */ labels) => /predictions|explanations|infer|invocations|predict/.test(labels.route);

/** Predictions a second. @param {Look} before @param {Look} now */
export function rate(before, now) {
  return total(grown(before, now, "actionrec_request_seconds_count", PREDICTIONS)) / Math.max(0.001, (now.at - before.at) / 1000);
}

/**
 * The time within which a share of the predictions was answered, from the histogram's buckets.
 *
 * @param {Look} before
 * @param {Look} now
 * @param {number} share 0.5 or 0.99
 * @returns {number | null} seconds; null: there was none
 */
export function quantile(before, now, share) {
  const buckets = new Map();
  const ok = (/** @type {Record<string, string>} */ labels) => PREDICTIONS(labels) && labels.status === "200";
  for (const { labels, value } of grown(before, now, "actionrec_request_seconds_bucket", ok)) {
    const edge = labels.le === "+Inf" ? Infinity : Number(labels.le);
    buckets.set(edge, (buckets.get(edge) || 0) + value);
  }
  const ordered = [...buckets].sort(([a], [b]) => a - b);
  const all = ordered.at(-1)?.[1] || 0;
  if (!all) return null;
  let [low, below] = [0, 0];
  for (const [edge, count] of ordered) {
    if (count >= share * all) {
      if (edge === Infinity) return low;
      return low + ((share * all - below) / Math.max(1e-9, count - below)) * (edge - low);
    }
    [low, below] = [edge, count];
  }
  return low;
}

/** @param {Look} before @param {Look} now @param {string} name @param {string} label @returns {[string, number][]} */
function counted(before, now, name, label) {
  const found = new Map();
  for (const { labels, value } of grown(before, now, name, PREDICTIONS)) {
    if (value) found.set(labels[label], (found.get(labels[label]) || 0) + value);
  }
  return [...found].sort();
}

/** Answers to predictions by their status. @param {Look} before @param {Look} now */
export const statuses = (before, now) => counted(before, now, "actionrec_request_seconds_count", "status");

/** Errors of predictions by their code. @param {Look} before @param {Look} now */
export const errors = (before, now) => counted(before, now, "actionrec_errors_total", "code");

/** @param {Look} look @param {string} name */
export function gauge(look, name) {
  return total(look.samples.filter((one) => one.name === name));
}

/** Seconds of each stage, in the mean. @param {Look} before @param {Look} now @returns {[string, number][]} */
export function stages(before, now) {
  const any = () => true;
  const counts = new Map(grown(before, now, "actionrec_stage_seconds_count", any).map((one) => [one.labels.stage, one.value]));
  return grown(before, now, "actionrec_stage_seconds_sum", any)
    .map((one) => /** @type {[string, number]} */ ([one.labels.stage, one.value / (counts.get(one.labels.stage) || Infinity)]))
    .filter(([, seconds]) => seconds > 0);
}
