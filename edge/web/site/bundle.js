// The bundle that edge.bundle wrote beside this page: edge_package.json and the files it names, each checked by its SHA-256.

const SAFE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

export async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

// The document, checked for what it is.
export async function readPackage() {
  const document = await readJson('edge_package.json');
  if (document.kind !== 'edge_package' || document.schema_version !== 1) {
    throw new Error(`edge_package.json is not one that this page reads (kind ${document.kind}, version ${document.schema_version}); bundle again`);
  }
  return document;
}

export async function readJson(name) {
  return JSON.parse(new TextDecoder().decode(await fetched(name)));
}

// The bytes of a file that has `file` and `sha256` in edge_package.json.
export async function readFile({ file, sha256: expected }) {
  const bytes = await fetched(file);
  const received = await sha256(bytes);
  if (received !== expected) throw new Error(`${file} was changed after it was bundled (SHA-256 ${received}); bundle again`);
  return bytes;
}

// One for each entry of the output's last axis; null where the model has none.
export async function readLabels(model) {
  if (model.labels === null) return null;
  const lines = new TextDecoder().decode(await readFile(model.labels)).replace(/\n+$/, '').split('\n');
  if (lines.length !== model.classes) throw new Error(`${model.labels.file} has ${lines.length} labels for ${model.classes} classes`);
  return lines.map((line) => line.replace(/\r$/, ''));
}

async function fetched(name) {
  if (!SAFE_NAME.test(name)) throw new Error(`not a file of a bundle: ${name}`);
  const response = await fetch(`./${name}`);
  if (!response.ok) throw new Error(`${name} could not be loaded (HTTP ${response.status})`);
  return new Uint8Array(await response.arrayBuffer());
}
