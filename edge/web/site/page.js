// The page: what is chosen, what is shown. The work is done in the modules beside it.

import { readFile, readJson, readLabels, readPackage } from './bundle.js';
import { PRESETS } from './latency.js';
import { decode, preprocess, readPixels } from './pixels.js';
import { benchmark, browser, deviceReport } from './report.js';
import { open, start } from './runtime.js';
import { meaningOf, topScores, views } from './scores.js';

const $ = (id) => document.getElementById(id);
const CONTROLS = ['model', 'backend', 'choose', 'camera', 'preset', 'measure'];

const page = {
  site: null, // what edge.bundle says of this folder
  session: null, // whether somebody waits for reports
  package: null,
  goldenImage: null,
  state: null, // as runtime.js found the browser
  about: null,
  current: null, // {key, model, labels, opened}
  image: null, // what was tried last
  stopping: false,
  filming: false,
  report: { results: [], failures: [] },
};

function element(name, text, classes = '') {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = classes;
  return made;
}

function fail(error) {
  $('alert').textContent = error.message ?? String(error);
  $('alert').hidden = false;
  console.error(error);
}

// Runs one piece of work, which may give closing words; nothing else can be started meanwhile.
async function working(status, words, work) {
  for (const id of CONTROLS) $(id).disabled = true;
  $('alert').hidden = true;
  status.textContent = words;
  try {
    status.textContent = (await work()) ?? '';
  } catch (error) {
    status.textContent = '';
    fail(error);
  } finally {
    for (const id of CONTROLS) $(id).disabled = false;
  }
}

// Lets the browser draw.
const breath = () => new Promise((done) => setTimeout(done, 0));

const backendWords = (backend, threads) => (backend === 'gpu' ? 'GPU' : `CPU, ${threads} thread${threads === 1 ? '' : 's'}`);

// What can be asked for: the CPU with one thread and with all that there may be, and the GPU.
function backends() {
  const threads = [...new Set([page.state.threads, 1])];
  const cpu = threads.map((count) => ({ backend: 'cpu', threads: count }));
  return page.state.gpu === null ? cpu : [...cpu, { backend: 'gpu', threads: null }];
}

// The chosen model on the chosen backend, loaded once.
async function chosen() {
  const model = page.package.models[$('model').selectedIndex];
  const { backend, threads } = backends()[$('backend').selectedIndex];
  const key = `${model.name} ${backend} ${threads}`;
  if (page.current?.key !== key) {
    page.current?.opened.close();
    page.current = null;
    const opened = await open(model, await readFile(model), backend, threads);
    page.current = { key, model, labels: await readLabels(model), opened };
  }
  return page.current;
}

// An image through the chosen model.
async function answer(image) {
  const { model, labels, opened } = await chosen();
  const begin = performance.now();
  const pixels = preprocess(image, model.preprocessing);
  const prepared = performance.now();
  await opened.write(pixels);
  const written = performance.now();
  const outputs = await opened.run();
  const ran = performance.now();
  show(model, topScores(model, labels, outputs[0]));
  const [, ...others] = views(model);
  $('others').replaceChildren(
    ...others.map((view, index) => {
      const top = topScores(view, null, outputs[index + 1]).map(({ label, score }) => `${label} ${score.toPrecision(3)}`);
      return element('li', `${view.output.name}: ${top.join(', ')}`);
    }),
  );
  const [preparing, running] = [prepared - begin, ran - written].map((value) => value.toFixed(1));
  $('stages').textContent = `${running} ms for the model, ${preparing} ms to resize ${image.width} × ${image.height} pixels`;
}

function show(model, top) {
  const meaning = model.output.meaning ?? 'classes';
  const isScored = meaningOf(model).activation !== null;
  const count = model.output.shape.reduce((product, side) => product * side, 1);
  $('answers-caption').textContent = {
    classes: `The likeliest of ${count} classes`,
    labels: `The likeliest of ${count} labels; each applies or not by itself`,
    values: `The first of ${count} values, as they are`,
    features: `Of ${count} features, the ones furthest from zero`,
  }[meaning];
  $('answers-figure').textContent = isScored ? 'probability' : meaningOf(model).one;
  $('answers').tBodies[0].replaceChildren(
    ...top.map(({ label, score }) => {
      const row = document.createElement('tr');
      const name = element('th', label);
      name.scope = 'row';
      if (isScored) {
        const bar = element('span', '', 'bar');
        bar.style.width = `${100 * score}%`;
        name.append(bar);
      }
      row.append(name, element('td', isScored ? `${(100 * score).toFixed(1)} %` : score.toPrecision(4), 'figure'));
      return row;
    }),
  );
  $('result').hidden = false;
}

async function tryFile(file) {
  page.image = await decode(file);
  URL.revokeObjectURL($('picture').src);
  $('picture').src = URL.createObjectURL(file);
  $('picture').hidden = false;
  await answer(page.image);
}

async function film() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' }, audio: false }).catch((error) => {
    throw new Error(`the camera cannot be used (${error.message}); allow it for this page in the browser's settings`);
  });
  const video = $('video');
  try {
    page.filming = true;
    video.srcObject = stream;
    await video.play();
    $('picture').hidden = true;
    video.hidden = false;
    $('camera').textContent = 'Stop the camera';
    $('camera').disabled = false;
    while (page.filming) {
      page.image = readPixels(video, video.videoWidth, video.videoHeight);
      await answer(page.image);
      await new Promise(requestAnimationFrame);
    }
  } finally {
    page.filming = false;
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
    video.hidden = true;
    $('camera').textContent = 'Start the camera';
  }
}

class StoppedError extends Error {}

async function measureAll() {
  page.current?.opened.close();
  page.current = null;
  page.stopping = false;
  page.report = { results: [], failures: [] };
  const tasks = page.package.models.flatMap((model) => backends().map((one) => ({ model, ...one })));
  if (page.state.gpu === null) page.report.failures.push(`GPU: ${page.state.gpuReason}`);
  for (const body of [...$('latencies').tBodies]) body.remove();
  $('remarks').lastElementChild.replaceChildren();
  $('progress').hidden = $('stop').hidden = $('measured').hidden = false;
  $('report').hidden = true;
  try {
    for (const [number, task] of tasks.entries()) await measureOne(task, number, tasks.length);
  } catch (error) {
    if (!(error instanceof StoppedError)) throw error;
    page.report.failures.push('stopped before all models were measured');
  } finally {
    $('progress').hidden = $('stop').hidden = true;
  }
  for (const failure of page.report.failures) remark(`not measured: ${failure}`);
  $('remarks').hidden = $('remarks').lastElementChild.children.length === 0;
  $('report').hidden = page.report.results.length === 0;
  const wrong = page.report.results.filter(({ parity }) => !parity.passed).length;
  const verdict = wrong ? `${wrong} of them gave a WRONG answer` : 'every answer is the golden one';
  return page.report.results.length ? `Done: ${page.report.results.length} measurements, ${verdict}.` : 'Nothing was measured.';
}

function remark(words) {
  $('remarks').lastElementChild.append(element('li', words));
}

// The rows of a model, below its name.
function rowsOf(model) {
  const last = [...$('latencies').tBodies].at(-1);
  if (last?.dataset.model === model.name) return last;
  const body = $('latencies').createTBody();
  body.dataset.model = model.name;
  const name = element('th', model.name);
  name.scope = 'rowgroup';
  name.colSpan = 8;
  const row = body.insertRow();
  row.className = 'model';
  row.append(name);
  return body;
}

async function measureOne({ model, backend, threads }, number, count) {
  const words = `${model.name}, ${backendWords(backend, threads)}`;
  $('measure-status').textContent = `${number + 1} of ${count}: ${words}`;
  const onShare = async (share) => {
    $('progress').value = (number + share) / count;
    await breath();
    if (page.stopping) throw new StoppedError();
  };
  await onShare(0);
  let opened;
  try {
    opened = await open(model, await readFile(model), backend, threads);
  } catch (error) {
    page.report.failures.push(`${words}: ${error.message ?? error}`);
    rowsOf(model).append(failedRow(backendWords(backend, threads), error));
    return;
  }
  try {
    const result = await benchmark(model, opened, page.goldenImage, PRESETS[$('preset').value], page.state.gpuIsSoftware, onShare);
    page.report.results.push(result);
    rowsOf(model).append(measuredRow(result, backendWords(backend, threads)));
    if (!result.valid) remark(`${words}: not valid, ${result.invalid_reasons.join('; ')}`);
  } finally {
    opened.close();
  }
}

function measuredRow(result, on) {
  const { parity } = result;
  const error = parity.max_abs_err === null ? 'not a number' : parity.max_abs_err.toPrecision(2);
  const why = parity.pixels_same ? `off by ${error}` : 'the pixels differ';
  const row = rowOf(on);
  const milliseconds = (value, classes = 'figure') => element('td', value.toFixed(value < 100 ? 2 : 0), classes);
  row.append(
    milliseconds(result.median_ms),
    milliseconds(result.p90_ms),
    milliseconds(result.init_ms, 'figure more'),
    milliseconds(result.first_inference_ms, 'figure more'),
    element('td', String(result.num_runs), 'figure more'),
    element('td', result.valid ? 'yes' : 'no', result.valid ? '' : 'warn'),
    element('td', parity.passed ? 'same' : `WRONG: ${why}`, parity.passed ? 'good' : 'bad'),
  );
  return row;
}

function failedRow(on, error) {
  const row = rowOf(on);
  const why = element('td', `not run: ${error.message ?? error}`, 'bad why');
  why.colSpan = 7;
  row.append(why);
  return row;
}

function rowOf(on) {
  const row = document.createElement('tr');
  const name = element('th', on);
  name.scope = 'row';
  row.append(name);
  return row;
}

function reportText() {
  const { about, state, site, session } = page;
  const model = $('device').value.trim() || about.model;
  const versions = { litertJs: site.litert_js.version, version: site.version, run: session.run };
  return `${JSON.stringify(deviceReport({ model, about, state, ...versions, ...page.report }), null, 1)}\n`;
}

function save() {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([reportText()], { type: 'application/json' }));
  link.download = 'device_report.json';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function send() {
  $('send').disabled = true;
  $('alert').hidden = true;
  $('report-status').textContent = 'Sending …';
  try {
    const response = await fetch('./report', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: reportText() });
    const said = (await response.text()).trim();
    if (!response.ok) throw new Error(`the report was refused: ${said}`);
    $('report-status').textContent = `Sent. ${said}`;
  } catch (error) {
    $('report-status').textContent = '';
    $('send').disabled = false;
    fail(error);
  }
}

function fact(text, lacking) {
  $('facts').append(element('li', text, lacking ? 'lacking' : ''));
}

function listen() {
  $('choose').onclick = () => $('file').click();
  $('file').onchange = async () => {
    const [file] = $('file').files;
    $('file').value = '';
    if (file) await working($('try-status'), `Running ${file.name} …`, () => tryFile(file));
  };
  for (const id of ['model', 'backend']) {
    $(id).onchange = async () => {
      if (page.image) await working($('try-status'), 'Loading the model …', () => answer(page.image));
    };
  }
  $('camera').onclick = async () => {
    if (page.filming) page.filming = false;
    else await working($('try-status'), 'Starting the camera …', film);
  };
  $('measure').onclick = () => working($('measure-status'), 'Starting …', measureAll);
  $('stop').onclick = () => {
    page.stopping = true;
  };
  $('save').onclick = save;
  $('send').onclick = send;
}

async function begin() {
  if (!isSecureContext) throw new Error('This page needs https: or localhost. python -m edge.device --web DIR serves it so.');
  [page.site, page.session, page.package] = [await readJson('edge_web.json'), await readJson('session.json'), await readPackage()];
  page.goldenImage = await decode(new Blob([await readFile(page.package.golden_image)], { type: 'image/png' }));
  page.state = await start();
  page.about = await browser();
  const { state, about, site } = page;
  for (const model of page.package.models) $('model').append(new Option(`${model.name} (${(model.size_bytes / 1e6).toFixed(1)} MB)`));
  $('model').selectedIndex = Math.max(0, page.package.models.findIndex(({ name }) => name === page.package.recommended.cpu?.name));
  for (const { backend, threads } of backends()) $('backend').append(new Option(backendWords(backend, threads)));
  $('preset').value = page.session.preset;
  $('device').value = about.model;
  fact(`${about.name} ${about.version}`);
  fact(state.threadsReason === null ? `${state.threads} threads` : `1 thread: ${state.threadsReason}`, state.threadsReason !== null);
  fact(state.gpu === null ? `no GPU: ${state.gpuReason}` : `GPU: ${state.gpu}`, state.gpu === null);
  const count = page.package.models.length;
  $('lede').textContent = `${count} model${count === 1 ? '' : 's'} ready. Try a picture, then measure how fast this device is.`;
  $('about').textContent = `LiteRT.js ${site.litert_js.version}. Bundled by tfvit ${site.version}. This page loads nothing from other hosts.`;
  const random = page.package.models.filter((model) => model.random_weights).map((model) => model.name);
  if (random.length) $('lede').append(element('strong', ` RANDOM weights, the answers mean nothing: ${random.join(', ')}.`, 'warn'));
  $('send').hidden = !page.session.reports;
  $('save').classList.toggle('primary', !page.session.reports);
  $('report-words').textContent = page.session.reports
    ? 'The computer that serves this page waits for the report.'
    : 'Save the file, and give it to python -m edge.report DIR --device device_report.json.';
  listen();
  for (const id of CONTROLS) $(id).disabled = false;
  document.documentElement.dataset.ready = 'true';
}

begin().catch((error) => {
  $('lede').textContent = 'The models could not be started.';
  fail(error);
});
