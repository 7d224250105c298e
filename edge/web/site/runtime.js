// Models on LiteRT.js: on the CPU (WebAssembly) or the GPU (WebGPU), never on one where the other was asked for.

import { Tensor, getWebGpuDevice, loadAndCompile, loadLiteRt, supportsFeature } from '@litertjs/core';

import { views } from './scores.js';

// More threads than this fight for the fast cores of a phone
const MOST_THREADS = 4;

// Loads LiteRT.js once. {threads, threadsReason, gpu, gpuReason, gpuIsSoftware}: how many CPU threads there may be, and the name of the GPU
// or null; the reasons say why not.
export async function start() {
  const threaded = crossOriginIsolated && (await supportsFeature('relaxedSimd')) && (await supportsFeature('threads'));
  await loadLiteRt('./', { threads: threaded });
  const threads = threaded ? Math.max(1, Math.min(MOST_THREADS, navigator.hardwareConcurrency ?? 1)) : 1;
  const isolation = 'this page is not cross-origin isolated: its host sends no COOP and COEP headers';
  const threadsReason = threaded ? null : crossOriginIsolated ? 'this browser lacks relaxed SIMD or WebAssembly threads' : isolation;
  return { threads, threadsReason, ...(await graphics()) };
}

async function graphics() {
  const none = (gpuReason) => ({ gpu: null, gpuReason, gpuIsSoftware: false });
  if (!navigator.gpu) return none('this browser has no WebGPU');
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) return none('the browser gives no WebGPU adapter');
  if (!getWebGpuDevice()) return none('the WebGPU device could not be made');
  const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info;
  const name = [...new Set([vendor, architecture, device, description])].filter(Boolean).join(' ') || 'not named by the browser';
  return { gpu: name, gpuReason: null, gpuIsSoftware: Boolean(isFallbackAdapter) || /swiftshader|llvmpipe/i.test(name) };
}

// A model that compiled for `backend` ("cpu", "gpu") and ran once: {backend, threads, initMs, firstInferenceMs, write, run, close}.
// `write` takes bytes of RGB; `run` gives the outputs as real numbers, in the file's order.
export async function open(model, bytes, backend, threads) {
  if (backend === 'gpu' && model.gpu.verdict === 'wrong') throw new Error(`known to answer wrongly on the GPU (${model.gpu.basis})`);
  const errors = [];
  const device = backend === 'gpu' ? getWebGpuDevice() : null;
  const hear = (event) => errors.push(event.error.message);
  device?.addEventListener('uncapturederror', hear);
  const start = performance.now();
  const options = backend === 'gpu' ? { accelerator: 'webgpu' } : { accelerator: 'wasm', cpuOptions: { numThreads: threads } };
  const compiled = await loadAndCompile(bytes, options);
  let input = null;
  const opened = {
    backend,
    threads: backend === 'cpu' ? threads : null,
    async write(pixels) {
      input?.delete();
      const host = new Tensor(stored(pixels, model.input), model.input.shape);
      input = backend === 'gpu' ? await host.moveTo('webgpu') : host;
    },
    async run() {
      const given = await compiled.run(input);
      try {
        const found = [];
        for (const [index, { output }] of views(model).entries()) found.push(real(await given[index].data(), output));
        return found;
      } finally {
        for (const output of given) output.delete();
      }
    },
    close() {
      device?.removeEventListener('uncapturederror', hear);
      input?.delete();
      compiled.delete();
    },
  };
  try {
    // LiteRT.js computes on the CPU what the GPU does not take
    if (backend === 'gpu' && (compiled.options.accelerator !== 'webgpu' || !compiled.isFullyAccelerated)) throw new Error('not whole on the GPU');
    const ready = performance.now();
    await opened.write(new Uint8Array(model.input.shape.reduce((product, side) => product * side, 1)));
    await opened.run();
    if (errors.length) throw new Error(errors.join('; '));
    return Object.assign(opened, { initMs: ready - start, firstInferenceMs: performance.now() - ready });
  } catch (error) {
    opened.close();
    throw error;
  }
}

// Pixels as an input takes them: an 8-bit one the byte of the nearest step, half to even.
export function stored(pixels, { dtype, quantization }) {
  if (dtype === 'float32') return Float32Array.from(pixels);
  if (quantization === null) return pixels;
  const bytes = Uint8Array.from({ length: 256 }, (_, value) =>
    Math.min(255, Math.max(0, halfToEven(value / quantization.scale) + quantization.zero_point)),
  );
  return pixels.map((value) => bytes[value]);
}

// The real numbers of an output.
export function real(values, { dtype, quantization }) {
  if (dtype === 'float32') return values;
  const { scale, zero_point: zeroPoint } = quantization ?? { scale: 1, zero_point: 0 };
  return Float32Array.from(values, (value) => (value - zeroPoint) * scale);
}

function halfToEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
