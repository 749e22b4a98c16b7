// Judges objects that operators bring to a cluster: a JSON array on standard input, complaints as a
// JSON array on standard output, one `{name, wrong}` for each object that is wrong.
//
// The validators say what has the wrong type or is missing, but let unknown keys pass. A validator
// reads every key that it knows, so a key of ours that was never read is unknown.
const fs = require("fs");
const path = require("path");

const packages = {
  "monitoring.coreos.com": "prometheus-operator",
  "keda.sh": "keda",
  "gateway.networking.k8s.io": "gateway-api",
};
const folder = process.env.NODE_PATH.split(path.delimiter)[0];

/** `value`, writing down in `seen` the path of each key that is read. */
function watched(value, at, seen) {
  if (value === null || typeof value !== "object") return value;
  return new Proxy(value, {
    get(target, key) {
      if (typeof key !== "string" || !Object.hasOwn(target, key)) return target[key];
      seen.add(`${at}.${key}`);
      return watched(target[key], `${at}.${key}`, seen);
    },
  });
}

/** The paths of all keys, but below free maps (labels, annotations, metadata of triggers). */
function* keys(value, at) {
  if (value === null || typeof value !== "object") return;
  for (const [key, inner] of Object.entries(value)) {
    yield `${at}.${key}`;
    yield* keys(inner, `${at}.${key}`);
  }
}

async function judge(object) {
  const [group, version] = object.apiVersion.split("/");
  const name = packages[group];
  if (!name) return [`no schema for ${object.apiVersion}`];
  const file = path.join(folder, "@kubernetes-models", name, group, version, `${object.kind}.js`);
  if (!fs.existsSync(file)) return [`no schema for ${object.apiVersion} ${object.kind}`];
  const Model = (await import(file))[object.kind];
  try {
    new Model(structuredClone(object)).validate();
  } catch (error) {
    return [error.message];
  }
  const seen = new Set();
  // `validate` works on its own properties, so each part is watched on its own.
  const watching = new Model(object);
  for (const part of Object.keys(watching)) watching[part] = watched(watching[part], part, seen);
  watching.validate();
  const unread = [];
  for (const part of ["spec"]) {
    for (const at of keys(object[part], part)) if (!seen.has(at)) unread.push(at);
  }
  // What lies below an unread key is not a complaint of its own.
  const top = unread.filter((at) => !unread.some((other) => at.startsWith(`${other}.`)));
  return top.map((at) => `${at} is not a key of ${object.kind}`);
}

(async () => {
  const complaints = [];
  for (const object of JSON.parse(fs.readFileSync(0, "utf8"))) {
    const wrong = await judge(object);
    if (wrong.length) complaints.push({ name: `${object.kind} ${object.metadata?.name}`, wrong });
  }
  console.log(JSON.stringify(complaints, null, 1));
})();
