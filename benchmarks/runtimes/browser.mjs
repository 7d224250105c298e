// Runs a .tflite in headless Chromium with LiteRT.js: raw inputs from a file, raw outputs to another.
//
//     node browser.mjs PACKAGES CHROMIUM ACCELERATOR MODEL INPUTS OUTPUTS
//
// PACKAGES is the folder in which package.json was installed. One line of JSON on stdout, as interpret.py prints: `version`, `machine`,
// `refused` (the runtime's reason, or null) and `untested` (why the accelerator is not there, or null).
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join, normalize, resolve } from 'node:path';

const [packages, executablePath, accelerator, model, inputs, outputs] = process.argv.slice(2);
const { chromium } = createRequire(join(resolve(packages), 'package.json'))('playwright-core');
const version = JSON.parse(await readFile(join(packages, 'node_modules/@litertjs/core/package.json'), 'utf8')).version;

const PAGE = `<!doctype html><link rel="icon" href="data:,"><script type="importmap">{"imports": {
  "@litertjs/core": "/node_modules/@litertjs/core/dist/index.js",
  "@litertjs/wasm-utils": "/node_modules/@litertjs/wasm-utils/dist/index.js"}}</script>`;
const TYPES = { '.js': 'text/javascript', '.wasm': 'application/wasm' };

async function content(path) {
  if (path === '/') return [PAGE, 'text/html'];
  if (path === '/model') return [await readFile(model), 'application/octet-stream'];
  if (path === '/inputs') return [await readFile(inputs), 'application/octet-stream'];
  const extension = path.slice(path.lastIndexOf('.'));
  return [await readFile(join(packages, normalize(path))), TYPES[extension] ?? 'application/octet-stream'];
}

const server = createServer(async (request, response) => {
  try {
    const [body, type] = await content(new URL(request.url, 'http://localhost').pathname);
    response.writeHead(200, { 'Content-Type': type }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));

async function inPage(accelerator) {
  const report = { adapter: null, refused: null, untested: null, outputs: [] };
  if (accelerator === 'webgpu') {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) return { ...report, untested: 'the browser gives no WebGPU adapter' };
    report.adapter = [adapter.info.vendor, adapter.info.architecture, adapter.info.description].filter(Boolean).join(' ');
  }
  const { Tensor, loadAndCompile, loadLiteRt } = await import('@litertjs/core');
  await loadLiteRt('/node_modules/@litertjs/core/wasm/');
  let compiled;
  try {
    compiled = await loadAndCompile('/model', { accelerator });
  } catch (error) {
    return { ...report, refused: String(error.message ?? error) };
  }
  if (accelerator === 'webgpu' && !compiled.isFullyAccelerated) return { ...report, refused: `not wholly on ${accelerator}` };
  const shape = Array.from(compiled.getInputDetails()[0].shape);
  const values = new Float32Array(await (await fetch('/inputs')).arrayBuffer());
  const each = shape.reduce((product, side) => product * side, 1);
  for (let start = 0; start < values.length; start += each) {
    const tensor = new Tensor(values.slice(start, start + each), shape);
    const placed = accelerator === 'webgpu' ? await tensor.moveTo('webgpu') : tensor;
    const [result] = await compiled.run(placed);
    const output = accelerator === 'webgpu' ? await result.moveTo('wasm') : result;
    report.outputs.push(...output.toTypedArray());
    placed.delete();
    output.delete();
  }
  return report;
}

// Chromium's sandbox does not start as root; every page here comes from this file
const flags = ['--no-sandbox', '--enable-unsafe-webgpu', '--enable-features=Vulkan', '--use-webgpu-adapter=swiftshader'];
const browser = await chromium.launch({ executablePath, args: flags });
try {
  const page = await browser.newPage();
  page.on('console', (message) => console.error(message.text()));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const report = await page.evaluate(inPage, accelerator).catch((error) => ({ refused: error.message.split('\n')[0], untested: null, outputs: [] }));
  await writeFile(outputs, new Float32Array(report.outputs));
  const machine = [accelerator, `Chromium ${browser.version()}`, report.adapter].filter(Boolean).join(', ');
  console.log(JSON.stringify({ version, machine, refused: report.refused, untested: report.untested }));
} finally {
  await browser.close();
  server.close();
}
