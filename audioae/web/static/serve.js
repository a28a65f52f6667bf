// The page of the local web app: uploads, settings, jobs, and the player for a short stretch or the
// whole recording. All URLs are relative, so that the app works behind a prefix.

"use strict";

const PARALLEL_UPLOADS = 3;
const CLIP_SECONDS = 8; // of a preview
const DELAY = 300; // ms after a change of the settings, before a preview is asked for
const BUSY_POLL = 500; // ms between requests for the progress
const IDLE_POLL = 60_000; // ms, at most; the server removes uploads that nobody asks for
const IDS_AT_ONCE = 200;
const PRESET_NAMES = { gentle: "Gentle", default: "Default", strong: "Strong", asr: "Speech recognition" };
const PRESET_HINTS = {
  gentle: "Some noise stays audible, and more of the voice is kept.",
  default: "The noise is removed as far as the model can.",
  strong: "Steady noise is reduced further.",
  asr: "For speech recognition: half of the attenuation in dB.",
};

const $ = (id) => document.getElementById(id);
const entries = []; // { key, name, file, upload, sent, problem, request, row }
let limits = {};
let chosen = null; // the entry in the player
let scope = "preview";
let player = null;
let previewNumber = 0; // of the newest preview; answers to older ones are ignored
let previewTimer = 0;
let pollTimer = 0;

// --- Requests

async function call(method, url, body = null) {
  const options = { method, cache: "no-store" };
  if (body) {
    options.headers = { "content-type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(url, options);
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  if (answer.status === 204) return null;
  const values = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = new Error(values.error || `The server answers with ${answer.status}.`);
    error.status = answer.status;
    throw error;
  }
  return values;
}

// Upload a file with its progress; `fetch` cannot report it.
function send(entry) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    entry.request = request;
    request.open("POST", `api/files?name=${encodeURIComponent(entry.name)}`);
    request.setRequestHeader("content-type", "application/octet-stream");
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      entry.sent = event.lengthComputable ? event.loaded / event.total : 0;
      showEntry(entry);
    });
    request.addEventListener("load", () => {
      if (request.status === 201) resolve(request.response);
      else reject(new Error(request.response?.error || `The server answers with ${request.status}.`));
    });
    request.addEventListener("error", () => reject(new Error("The upload was cut off.")));
    request.addEventListener("abort", () => reject(new Error("cancelled")));
    request.send(entry.file);
  });
}

// --- Uploads

function add(files) {
  for (const file of files) {
    const entry = { key: crypto.randomUUID?.() ?? String(Math.random()), name: file.name, file, sent: 0 };
    if (file.size > limits.max_bytes) {
      entry.problem = `larger than ${formatBytes(limits.max_bytes)}, the limit of this server`;
    }
    insert(entry);
  }
  announce(`${files.length} ${files.length === 1 ? "recording" : "recordings"} added`);
  uploadNext();
}

function insert(entry) {
  entries.push(entry);
  entry.row = buildRow(entry);
  $("list").append(entry.row.item);
  showEntry(entry);
  showAll();
}

function uploadNext() {
  const sending = entries.filter((each) => each.request).length;
  const waiting = entries.filter((each) => each.file && !each.request && !each.problem);
  for (const entry of waiting.slice(0, PARALLEL_UPLOADS - sending)) upload(entry);
}

async function upload(entry) {
  try {
    entry.upload = await send(entry);
    entry.name = entry.upload.name;
  } catch (error) {
    if (error.message !== "cancelled") {
      entry.problem = error.message;
      announce(`${entry.name}: ${error.message}`);
    }
  }
  entry.file = entry.request = null;
  if (!entries.includes(entry)) { // removed meanwhile
    if (entry.upload) call("DELETE", urlOf(entry)).catch(() => {});
  } else {
    remember();
    showEntry(entry);
    showAll();
    if (entry.upload && !chosen) choose(entry);
  }
  uploadNext();
}

const urlOf = (entry) => `api/files/${encodeURIComponent(entry.upload.id)}`;
const isActive = (entry) => ["waiting", "running"].includes(entry.upload?.state);

// Reloading the page keeps the uploads.
function remember() {
  const ids = entries.filter((each) => each.upload).map((each) => each.upload.id);
  try {
    sessionStorage.setItem("audioae", JSON.stringify(ids));
  } catch { /* storage is blocked: they are not kept */ }
}

async function restore() {
  let ids = [];
  try {
    ids = JSON.parse(sessionStorage.getItem("audioae")) ?? [];
  } catch { /* the same */ }
  for (const found of await states(ids)) insert({ key: found.id, name: found.name, upload: found });
  if (entries.length) choose(entries[0]);
  remember();
}

async function states(ids) {
  const found = [];
  for (let start = 0; start < ids.length; start += IDS_AT_ONCE) {
    const part = ids.slice(start, start + IDS_AT_ONCE);
    found.push(...await call("GET", `api/files?${part.map((id) => `id=${encodeURIComponent(id)}`).join("&")}`));
  }
  return found;
}

async function remove(entry) {
  const place = entries.indexOf(entry);
  if (place < 0) return;
  entries.splice(place, 1);
  entry.row.item.remove();
  entry.request?.abort();
  if (entry.upload) call("DELETE", urlOf(entry)).catch(() => {});
  if (chosen === entry) choose(entries.find((each) => each.upload) ?? null);
  remember();
  showAll();
  announce(`${entry.name} removed`);
  const next = entries[Math.min(place, entries.length - 1)];
  (next ? next.row.remove : $("files")).focus();
}

// --- Jobs

function settings() {
  const values = {
    model: $("model").value, preset: $("preset").value, quality: $("quality").value,
  };
  if ($("strength").dataset.touched) values.strength = Number($("strength").value) / 100;
  return values;
}

async function denoise(entry) {
  entry.problem = "";
  try {
    const wanted = { ...settings(), format: $("format").value };
    entry.upload = await call("POST", `${urlOf(entry)}/denoise`, wanted);
    if (chosen === entry && scope === "result") setScope("preview");
  } catch (error) {
    entry.problem = error.message;
  }
  showEntry(entry);
  showAll();
  poll();
}

async function cancel(entry) {
  try {
    entry.upload = await call("POST", `${urlOf(entry)}/cancel`);
  } catch (error) {
    entry.problem = error.message;
  }
  showEntry(entry);
  showAll();
}

async function poll() {
  clearTimeout(pollTimer);
  const known = entries.filter((each) => each.upload);
  try {
    const found = new Map((await states(known.map((each) => each.upload.id))).map((each) => [each.id, each]));
    problem("");
    for (const entry of known) update(entry, found.get(entry.upload.id));
  } catch (error) {
    problem(error.message);
  }
  showAll();
  pollTimer = setTimeout(poll, entries.some(isActive) ? BUSY_POLL : Math.min(IDLE_POLL, 250 * limits.keep_seconds));
}

function update(entry, upload) {
  const wasActive = isActive(entry);
  if (!upload) {
    entry.upload = null;
    entry.problem = "removed by the server";
  } else {
    entry.upload = upload;
  }
  showEntry(entry);
  if (!wasActive || isActive(entry)) return;
  announce(`${entry.name}: ${describe(entry)}`);
  if (chosen === entry && entry.upload?.state === "done") setScope("result");
}

// --- The list

function buildRow(entry) {
  const row = {
    name: element("h3", { class: "name" }),
    detail: element("p", { class: "detail" }),
    progress: element("progress", { max: 1 }),
    listen: button("Listen", "", () => choose(entry, true)),
    denoise: button("Denoise", "main", () => denoise(entry)),
    cancel: button("Cancel", "", () => cancel(entry)),
    download: element("a", { class: "button main" }, "Download"),
    remove: button("Remove", "", () => remove(entry)),
  };
  const texts = element("div", {}, row.name, row.detail);
  const actions = element("div", { class: "actions" },
    row.listen, row.denoise, row.cancel, row.download, row.remove);
  row.item = element("li", {}, texts, actions, row.progress);
  return row;
}

function showEntry(entry) {
  const { row, upload } = entry;
  row.name.textContent = entry.name;
  row.detail.textContent = describe(entry);
  row.detail.classList.toggle("problem", Boolean(entry.problem || upload?.error));
  const done = upload?.state === "done";
  const active = isActive(entry);
  row.listen.hidden = row.denoise.hidden = !upload;
  row.denoise.hidden ||= active;
  row.denoise.textContent = done ? "Denoise again" : "Denoise";
  row.denoise.className = done ? "" : "main";
  row.cancel.hidden = !active;
  row.download.hidden = !done;
  if (done) row.download.href = `${urlOf(entry)}/result`;
  const sending = Boolean(entry.request);
  row.progress.hidden = !active && !sending;
  if (sending && entry.sent >= 1) row.progress.removeAttribute("value"); // it is checked
  else row.progress.value = sending ? entry.sent : upload?.progress ?? 0;
  row.progress.setAttribute("aria-label", `${sending ? "Uploading" : "Denoising"} ${entry.name}`);
  row.item.classList.toggle("chosen", entry === chosen);
  for (const name of ["listen", "denoise", "cancel", "download", "remove"]) {
    row[name].setAttribute("aria-label", `${row[name].textContent} ${entry.name}`);
  }
  if (entry === chosen) row.listen.setAttribute("aria-current", "true");
  else row.listen.removeAttribute("aria-current");
}

function describe(entry) {
  if (entry.problem) return entry.problem;
  const { upload } = entry;
  if (!upload) {
    if (!entry.request) return "waits to be uploaded";
    return entry.sent < 1 ? `uploading, ${Math.round(100 * entry.sent)} %` : "checking";
  }
  const { form } = upload;
  const channels = { 1: "mono", 2: "stereo" }[form.channels] ?? `${form.channels} channels`;
  const facts = [formatTime(form.seconds), `${form.sample_rate / 1000} kHz`, channels, formatBytes(upload.num_bytes)];
  const states = {
    waiting: "waits",
    running: `denoising, ${Math.round(100 * upload.progress)} %`,
    done: `denoised, ${upload.result?.mean_attenuation_db?.toFixed(1) ?? "0"} dB of attenuation`,
    failed: upload.error,
    cancelled: "cancelled",
  };
  return [facts.join(", "), states[upload.state]].filter(Boolean).join(" · ");
}

function showAll() {
  const uploads = entries.filter((each) => each.upload);
  const done = uploads.filter((each) => each.upload.state === "done");
  $("recordings").hidden = !entries.length;
  $("denoise-all").disabled = !uploads.some((each) => !isActive(each) && each.upload.state !== "done");
  $("download-all").hidden = done.length < 2;
  $("download-all").href = `api/zip?${done.map((each) => `id=${encodeURIComponent(each.upload.id)}`).join("&")}`;
}

// --- Listening

function choose(entry, focus = false) {
  const before = chosen;
  chosen = entry;
  for (const each of [before, entry]) if (each) showEntry(each);
  $("listening").hidden = !entry;
  closePlayer();
  if (!entry) return;
  $("listening-title").textContent = entry.name;
  const most = Math.max(entry.upload.form.seconds - CLIP_SECONDS, 0);
  $("start").max = most;
  $("start").value = Math.min(loudPlace(entry.upload.form.seconds), most);
  $("start").disabled = !most;
  showStart();
  setScope(entry.upload.state === "done" ? "result" : "preview");
  if (focus) {
    $("listening").scrollIntoView({ block: "nearest" });
    $("listening-title").setAttribute("tabindex", "-1");
    $("listening-title").focus({ preventScroll: true });
  }
}

// Recordings often begin with silence: a preview begins a little later.
const loudPlace = (seconds) => (seconds > 4 * CLIP_SECONDS ? 0.1 * seconds : 0);

function setScope(name) {
  scope = name;
  showScope();
  if (name === "result") loadPlayer(`${urlOf(chosen)}`, false);
  else preview(0);
}

function showScope() {
  for (const radio of document.querySelectorAll("input[name=scope]")) {
    radio.checked = radio.value === scope;
    if (radio.value === "result") radio.disabled = chosen.upload?.state !== "done";
  }
  $("stretch").hidden = scope !== "preview";
  showResult();
}

function preview(delay = DELAY) {
  if (!chosen?.upload || scope !== "preview") return;
  clearTimeout(previewTimer);
  previewTimer = setTimeout(makePreview, delay);
}

async function makePreview() {
  const entry = chosen;
  if (!entry?.upload) return;
  const number = ++previewNumber;
  $("working").textContent = "Denoising …";
  $("player").classList.add("stale");
  try {
    const stretch = { start: Number($("start").value), seconds: CLIP_SECONDS };
    const made = await call("POST", `${urlOf(entry)}/preview`, { ...settings(), ...stretch });
    if (number !== previewNumber || entry !== chosen || scope !== "preview") return;
    await loadPlayer(made.player.slice(0, made.player.lastIndexOf("/")), true);
  } catch (error) {
    if (number === previewNumber && error.status !== 409) problem(error.message);
  } finally {
    if (number === previewNumber) {
      $("working").textContent = "";
      $("player").classList.remove("stale");
    }
  }
}

// Show the player of a description; it goes on where the one before was, with the same choices.
async function loadPlayer(base, looping) {
  const entry = chosen;
  const wanted = scope;
  let description;
  try {
    description = await call("GET", `${base}/player.json`);
  } catch (error) {
    problem(error.message);
    return;
  }
  if (entry !== chosen || wanted !== scope) return;
  for (const track of description.tracks) {
    for (const part of track.parts) part.src = `${base}/${part.src}`;
  }
  const old = player;
  const kept = old?.scope === scope && old.seconds === description.seconds;
  const state = old && {
    selected: old.selected, matched: old.matched, playing: old.playing, looping: old.looping,
    position: kept ? old.now() : 0, loop: kept ? old.loop : null,
  };
  closePlayer();
  problem("");
  if (!description.seconds) return;
  player = new AudioaePlayer($("player"), description);
  player.scope = scope;
  player.looping = looping && !player.tracks.some((each) => !each.parts.length);
  player.select(state?.selected ?? 1);
  if (state) {
    player.match(state.matched);
    player.position = state.position;
    player.loop = state.loop;
    if (kept) player.looping = state.looping;
  }
  player.showSelection();
  player.showClock();
  if (state?.playing) player.play();
}

function closePlayer() {
  if (!player) return;
  if (player.playing) player.pause();
  player.context?.close();
  player.follow = () => {}; // ends its animation
  player = null;
  $("player").replaceChildren();
}

function showResult() {
  const result = scope === "result" ? chosen?.upload?.result : null;
  const verdict = result?.verdict;
  $("figures").hidden = !verdict;
  const number = (value, unit, digits = 1) => (value == null ? "unknown" : `${value.toFixed(digits)} ${unit}`);
  const figures = verdict ? [
    ["input SNR, estimated", number(verdict.input_snr_db, "dB")],
    ["mean attenuation", number(verdict.mean_attenuation_db, "dB")],
    ["largest attenuation", number(verdict.max_attenuation_db, "dB")],
    ["speech kept", number(verdict.speech_kept == null ? null : 100 * verdict.speech_kept, "%", 0)],
  ] : [];
  $("figures").replaceChildren(...figures.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  const notes = result ? [...new Set([...(result.warnings ?? []), ...(verdict?.warnings ?? [])])] : [];
  $("notes").replaceChildren(...notes.map((each) => element("li", {}, each)));
}

function showStart() {
  const start = Number($("start").value);
  const end = Math.min(start + CLIP_SECONDS, chosen?.upload.form.seconds ?? 0);
  const text = `${formatTime(start)} to ${formatTime(end)}`;
  $("start-value").textContent = text;
  $("start").setAttribute("aria-valuetext", text);
}

// --- Messages

function announce(text) {
  $("status").textContent = text;
}

function problem(text) {
  $("problem").hidden = !text;
  $("problem").textContent = text;
}

function formatBytes(bytes) {
  if (bytes < 1e6) return `${Math.max(Math.round(bytes / 1e3), 1)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

// --- Events

function showStrength() {
  const text = `${$("strength").value} %`;
  $("strength-value").textContent = text;
  $("strength").setAttribute("aria-valuetext", text);
}

function usePreset(presets) {
  const values = presets[$("preset").value];
  delete $("strength").dataset.touched;
  $("strength").value = Math.round(100 * values.strength);
  $("preset-hint").textContent = PRESET_HINTS[$("preset").value] ?? "";
  showStrength();
}

function listen(presets) {
  $("files").addEventListener("change", () => {
    add([...$("files").files]);
    $("files").value = "";
  });
  $("preset").addEventListener("change", () => usePreset(presets));
  $("strength").addEventListener("input", () => {
    $("strength").dataset.touched = "yes";
    showStrength();
  });
  $("settings").addEventListener("input", (event) => event.target.id !== "format" && preview());
  $("settings").addEventListener("submit", (event) => event.preventDefault());
  $("start").addEventListener("input", () => {
    showStart();
    preview();
  });
  $("scope").addEventListener("change", (event) => setScope(event.target.value));
  $("denoise-all").addEventListener("click", async () => {
    for (const entry of [...entries]) {
      if (entry.upload && !isActive(entry) && entry.upload.state !== "done") await denoise(entry);
    }
  });
  $("remove-all").addEventListener("click", () => [...entries].forEach(remove));
  let depth = 0; // of elements that a file is dragged over
  const drag = (on) => document.body.classList.toggle("dragging", on);
  const hasFiles = (event) => [...event.dataTransfer.types].includes("Files");
  document.addEventListener("dragenter", (event) => drag(hasFiles(event) && ++depth > 0));
  document.addEventListener("dragleave", () => drag((depth = Math.max(depth - 1, 0)) > 0));
  document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    drag((depth = 0) > 0);
    add([...event.dataTransfer.files]);
  });
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest?.("input, select, textarea, button, a, progress");
    if (player && (!field || player.element.contains(field))) player.handleKey(event);
  });
}

async function start() {
  try {
    const offered = await call("GET", "api/models");
    limits = offered.limits;
    const options = (names) => names.map((name) => element("option", { value: name }, name));
    $("model").append(...options(offered.models));
    $("preset").append(...Object.keys(offered.presets).map((name) =>
      element("option", { value: name }, PRESET_NAMES[name] ?? name)));
    $("preset").value = "default";
    $("format").append(...offered.formats.map((name) => element("option", { value: name }, name.toUpperCase())));
    const minutes = Math.max(Math.round(limits.keep_seconds / 60), 1);
    $("kept").textContent = "It deletes them when you remove them here, when it stops, and " +
      `${minutes} ${minutes === 1 ? "minute" : "minutes"} after you close this page.`;
    $("limit").textContent = `Up to ${formatBytes(limits.max_bytes)} per file.`;
    usePreset(offered.presets);
    listen(offered.presets);
    await restore();
    poll();
  } catch (error) {
    problem(error.message);
  }
}

start();
