// The measuring protocol of edge.benchmark (edge/latency/protocol.py), one model at a time: bursts until they are seen to get no faster, then
// rounds until the preset is met.

export const PRESETS = {
  quick: { minRuns: 10, minSeconds: 1 },
  default: { minRuns: 50, minSeconds: 5 },
  mlperf: { minRuns: 1024, minSeconds: 60 },
};
export const CONSTANTS = {
  BURST_SECONDS: 0.1,
  BURST_RUNS: 3,
  SETTLED: 0.1,
  WARMUP_BURSTS: 3,
  MOST_WARMUP_SECONDS: 10,
  MOST_SPREAD: 0.4,
  MOST_DRIFT: 0.1,
};
const C = CONSTANTS;

// {rounds, warmupRuns, settled}: milliseconds of every inference, by round. `infer` is one inference with its output read back; `onShare` is
// called after each round with the share that is done, and may wait: the page draws meanwhile.
export async function measure(preset, infer, onShare = async () => {}, now = () => performance.now()) {
  const start = now();
  const times = { rounds: [], warmupRuns: 0, settled: false };
  const medians = [];
  while (!times.settled) {
    const found = await burst(C.BURST_SECONDS / 2, infer, now);
    times.warmupRuns += found.length;
    medians.push(percentile(sorted(found), 50));
    times.settled = hasSettled(medians);
    await onShare(0);
    if (!times.settled && (now() - start) / 1e3 > C.MOST_WARMUP_SECONDS) break;
  }
  for (let share = 0; share < 1; ) {
    times.rounds.push(await burst(C.BURST_SECONDS, infer, now));
    share = Math.min(allOf(times).length / preset.minRuns, secondsOf(times) / preset.minSeconds, 1);
    await onShare(share);
  }
  return times;
}

async function burst(minSeconds, infer, now) {
  const found = [];
  for (let sum = 0; found.length < C.BURST_RUNS || sum < 1e3 * minSeconds; sum += found.at(-1)) {
    const start = now();
    await infer();
    found.push(now() - start);
  }
  return found;
}

// Whether the last two bursts' medians agree and are about as fast as any before.
export function hasSettled(medians) {
  return medians.length >= C.WARMUP_BURSTS && Math.max(...medians.slice(-2)) <= Math.min(...medians) * (1 + C.SETTLED);
}

// The fields of a result in device_report.json that are about time.
export function statistics(times) {
  const values = sorted(allOf(times));
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  return {
    avg_ms: rounded(mean),
    median_ms: rounded(percentile(values, 50)),
    p5_ms: rounded(percentile(values, 5)),
    p90_ms: rounded(percentile(values, 90)),
    p95_ms: rounded(percentile(values, 95)),
    stddev_ms: rounded(Math.sqrt(variance)),
    min_ms: rounded(values[0]),
    max_ms: rounded(values.at(-1)),
    num_runs: values.length,
    num_warmup_runs: times.warmupRuns,
    seconds: rounded(secondsOf(times)),
  };
}

// Why a measurement should not be relied on; empty where it may be.
export function invalidReasons(times, preset) {
  const reasons = [];
  const values = sorted(allOf(times));
  if (values.length < preset.minRuns || secondsOf(times) < preset.minSeconds) {
    const found = `${values.length} in ${secondsOf(times).toFixed(1)} s`;
    reasons.push(`too few runs: ${found}, asked for ${preset.minRuns} in ${preset.minSeconds} s`);
  }
  if (values.length === 0) return reasons;
  if (!times.settled) reasons.push(`still warming up after ${C.MOST_WARMUP_SECONDS} s`);
  const spread = (percentile(values, 90) - percentile(values, 5)) / percentile(values, 50);
  if (spread > C.MOST_SPREAD) {
    reasons.push(`too noisy: p5 to p90 spread over ${percent(spread)} of the median, at most ${percent(C.MOST_SPREAD)}`);
  }
  const drift = driftOverRounds(times);
  if (Math.abs(drift) > C.MOST_DRIFT) {
    const what = drift > 0 ? 'slowed down (throttled?)' : 'sped up';
    reasons.push(`${what} by ${percent(Math.abs(drift))} while measured, at most ${percent(C.MOST_DRIFT)}`);
  }
  return reasons;
}

// Median of the last third of the rounds over that of the first third, minus 1; 0 with fewer than six rounds.
function driftOverRounds({ rounds }) {
  if (rounds.length < 6) return 0;
  const third = Math.floor(rounds.length / 3);
  const median = (some) => percentile(sorted(some.flat()), 50);
  return median(rounds.slice(-third)) / median(rounds.slice(0, third)) - 1;
}

// Between the two nearest values, as NumPy's `percentile` does.
function percentile(values, percents) {
  const place = (values.length - 1) * (percents / 100);
  const below = Math.floor(place);
  const above = Math.min(below + 1, values.length - 1);
  return values[below] + (values[above] - values[below]) * (place - below);
}

const allOf = ({ rounds }) => rounds.flat();
const secondsOf = (times) => allOf(times).reduce((sum, value) => sum + value, 0) / 1e3;
const sorted = (values) => [...values].sort((a, b) => a - b);
const percent = (share) => `${(100 * share).toFixed(0)}%`;
export const rounded = (value) => Math.round(value * 1e4) / 1e4;
