// The parity check, and device_report.json: what edge.report reads.

import { sha256 } from './bundle.js';
import { invalidReasons, measure, rounded, statistics } from './latency.js';
import { preprocess } from './pixels.js';
import { meaningOf, realNumbers, topK, views } from './scores.js';

// Whether this browser answers the golden image as the machine did that packed the model. `pixels_same` is false where the browser changes
// what a page reads of a picture, as some do against fingerprinting.
export async function parity(model, opened, goldenImage) {
  const pixels = preprocess(goldenImage, model.preprocessing);
  await opened.write(pixels);
  const pixelsSame = (await sha256(pixels)) === model.golden.pixels_sha256;
  const outputs = await opened.run();
  const checked = views(model).map((view, index) => parityOf(view, outputs[index], opened.backend, pixelsSame));
  // of several outputs the one that is furthest off, measured by its tolerance
  const off = ({ max_abs_err: error, tolerance }) => (error === null ? Infinity : error / tolerance);
  const worst = checked.reduce((most, one) => (off(one) > off(most) ? one : most));
  return { ...worst, passed: checked.every(({ passed }) => passed), top5_same: checked[0].top5_same };
}

function parityOf(model, output, backend, pixelsSame) {
  const { golden } = model;
  const numbers = realNumbers(model, output);
  const isScored = meaningOf(model).activation !== null;
  const expected = (golden.top5 ?? []).map((one) => one.index);
  const received = topK(numbers, expected.length);
  const held = isScored ? golden.top5.slice(0, 1).map(({ index, score }) => ({ index, value: score })) : golden.numbers;
  const error = held.reduce((most, { index, value }) => Math.max(most, Math.abs(numbers[index] - value)), 0);
  const tolerance = golden.tolerance[backend];
  return {
    passed: pixelsSame && received[0] === expected[0] && error <= tolerance,
    top5_same: isScored ? received.every((index, place) => index === expected[place]) : null,
    max_abs_err: Number.isFinite(error) ? error : null,
    tolerance,
    pixels_same: pixelsSame,
  };
}

// One entry of `results`.
export async function benchmark(model, opened, goldenImage, preset, softwareGpu, onShare) {
  const checked = await parity(model, opened, goldenImage);
  const times = await measure(preset, () => opened.run(), onShare);
  const reasons = invalidReasons(times, preset);
  if (opened.backend === 'gpu' && softwareGpu) reasons.push('a software GPU: it computes on the CPU');
  return {
    name: model.name,
    sha256: model.sha256,
    backend_requested: opened.backend,
    backend_used: opened.backend,
    backend_reason: null,
    threads: opened.threads,
    ...statistics(times),
    init_ms: rounded(opened.initMs),
    first_inference_ms: rounded(opened.firstInferenceMs),
    peak_mem_mb: null,
    valid: reasons.length === 0,
    invalid_reasons: reasons,
    thermal: null,
    parity: checked,
  };
}

// What the browser says of itself and of the device; a page learns no more.
export async function browser() {
  const agent = navigator.userAgent;
  const said = (await navigator.userAgentData?.getHighEntropyValues(['model', 'architecture', 'platformVersion'])) ?? {};
  const brand = navigator.userAgentData?.brands?.find(({ brand: name }) => !/not.?a.?brand|chromium/i.test(name));
  const known = /(Firefox|FxiOS|EdgA?|CriOS|Chrome|Version)\/([\d.]+)/.exec(agent);
  const names = { FxiOS: 'Firefox', CriOS: 'Chrome', Edg: 'Edge', EdgA: 'Edge', Version: 'Safari' };
  const system = [said.platform ?? navigator.userAgentData?.platform, said.platformVersion].filter(Boolean).join(' ');
  const fallback = /\(([^)]*)\)/.exec(agent)?.[1].split(';').slice(0, 2).join(',') ?? 'unknown';
  return {
    name: brand?.brand ?? names[known?.[1]] ?? known?.[1] ?? 'unknown',
    version: brand?.version ?? known?.[2] ?? 'unknown',
    user_agent: agent,
    system: system || fallback,
    architecture: said.architecture || 'unknown',
    model: said.model || (/iPhone|iPad|Macintosh/.exec(agent)?.[0] ?? (system || fallback)),
  };
}

// The document. `model` is the device's name as its user has it.
export function deviceReport({ model, about, state, litertJs, version, run, results, failures }) {
  return {
    kind: 'device_report',
    schema_version: 1,
    app: { name: 'the page of edge.bundle --web', version },
    device: { manufacturer: '', model, soc: null, android_version: null, api_level: null, abi: about.architecture, kind: 'browser' },
    browser: {
      name: about.name,
      version: about.version,
      system: about.system,
      user_agent: about.user_agent,
      gpu: state.gpu,
      cross_origin_isolated: crossOriginIsolated,
    },
    runtime: `LiteRT.js ${litertJs}, WebAssembly${state.threadsReason === null ? ' with threads' : ''}${state.gpu === null ? '' : ' and WebGPU'}`,
    results,
    failures,
    ...(run ? { run } : {}),
  };
}
